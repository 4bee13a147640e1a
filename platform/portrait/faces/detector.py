"""Face detectors behind one small protocol; whatever the detector, a box spans cheek to cheek and brow to chin.

`HaarDetector` (Viola and Jones, 2001) needs no download: OpenCV carries its cascades. `YuNetDetector` (Wu et al., 2023)
takes an ONNX file by path. Their raw boxes differ (a Haar square is wider than the face), so each detector converts its
own to that one meaning; else the crop would depend on the detector. Letters: `H W`, boxes (x, y, w, h) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np


class NoFaceError(ValueError):
    """No face was found in a picture or a clip."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """A detected face, in pixels of the picture; may reach out of it."""

    x: float
    """Left edge."""
    y: float
    """Top edge, about at the hairline."""
    w: float
    """Width from cheek to cheek."""
    h: float
    """Height down to the chin."""
    score: float
    """The detector's confidence: larger is surer; comparable within one detector only."""

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the box's middle, about the bridge of the nose."""
        return self.x + self.w / 2, self.y + self.h / 2


class FaceDetector(Protocol):
    """Anything that finds faces in one picture."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        """Finds faces in an RGB picture uint8 [H, W, 3], the largest first; an empty list where there is none."""
        ...


class HaarDetector:
    """OpenCV's cascades: frontal faces first, faces in profile where there is no frontal one.

    Args:
        working_size: the picture's longer side is brought to this before searching; a face narrower than about a tenth
            of that side is not found.
    """

    # Measured against YuNet's boxes on the real clips: the frontal cascade's square is 1.25 ± 0.08 of the face's width
    # and has the same centre; the profile cascade's square is about as wide as the head, which lies to its front.
    _FRONTAL_WIDTH = 1.26
    _PROFILE_WIDTH = 1.35
    _ASPECT = 1.39

    def __init__(self, working_size: int = 288) -> None:
        if not hasattr(cv2, "CascadeClassifier"):
            raise ImportError(
                f"cv2: version {cv2.__version__} has no Haar cascades, expected opencv-python-headless<5 "
                "(and no opencv-python beside it)"
            )
        self.working_size = working_size
        self._frontal = _cascade("haarcascade_frontalface_alt2.xml")
        self._frontal_loose = _cascade("haarcascade_frontalface_default.xml")
        self._profile = _cascade("haarcascade_profileface.xml")

    def __reduce__(self) -> tuple[type[HaarDetector], tuple[int]]:
        """Pickles as its setting: cascades can't travel between processes."""
        return HaarDetector, (self.working_size,)

    def detect(self, frame: np.ndarray) -> list[Face]:
        """See `FaceDetector.detect`."""
        scale = min(1.0, self.working_size / max(frame.shape[:2]))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if scale < 1.0:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = cv2.equalizeHist(grey)
        least = max(24, round(max(grey.shape) / 11))
        squares = _search(self._frontal, grey, least, neighbours=4)
        width = self._FRONTAL_WIDTH
        if not squares:
            squares = _search(self._frontal_loose, grey, least, neighbours=7)
            # The older cascade's squares are a little larger than the newer one's.
            width = self._FRONTAL_WIDTH * 1.06
        if not squares:
            mirrored = _search(self._profile, np.ascontiguousarray(grey[:, ::-1]), least, neighbours=4)
            squares = _search(self._profile, grey, least, neighbours=4)
            squares += [(grey.shape[1] - x - s, y, s, votes) for x, y, s, votes in mirrored]
            width = self._PROFILE_WIDTH
        faces = [self._face(x, y, s, votes, width, scale) for x, y, s, votes in squares]
        return drop_nested(sorted(faces, key=lambda face: -face.w))

    def _face(self, x: float, y: float, side: float, votes: float, width: float, scale: float) -> Face:
        """Converts a cascade's square on the small picture to a face box on the frame."""
        w = side / width / scale
        h = w * self._ASPECT
        return Face(x=(x + side / 2) / scale - w / 2, y=(y + side / 2) / scale - h / 2, w=w, h=h, score=votes)


def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / name))
    if cascade.empty():
        raise FileNotFoundError(f"{name}: OpenCV's cascade is missing from {cv2.data.haarcascades}")
    return cascade


def _search(
    cascade: cv2.CascadeClassifier, grey: np.ndarray, least: int, neighbours: int
) -> list[tuple[float, float, float, float]]:
    """Runs a cascade: [(x, y, side, votes)]; the votes are how many windows agreed."""
    squares, votes = cascade.detectMultiScale2(
        grey, scaleFactor=1.12, minNeighbors=neighbours, minSize=(least, least)
    )
    return [(float(x), float(y), float(w), float(n)) for (x, y, w, _), n in zip(squares, votes, strict=True)]


def drop_nested(faces: list[Face]) -> list[Face]:
    """Keeps the larger of two boxes where the smaller's centre lies in it (a cascade also fires on parts of a face)."""
    kept: list[Face] = []
    for face in faces:
        x, y = face.centre
        if not any(f.x <= x <= f.x + f.w and f.y <= y <= f.y + f.h for f in kept):
            kept.append(face)
    return kept


class YuNetDetector:
    """YuNet through OpenCV: better than Haar on turned, small and dark faces.

    Args:
        path: the ONNX file, an export with a fixed 640×640 input (OpenCV 4 can't read the one with dynamic shapes).
        min_score: faces below this confidence (0…1) are dropped.
    """

    _INPUT = 640

    def __init__(self, path: str | Path, min_score: float = 0.6) -> None:
        self.path, self.min_score = str(path), min_score
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file (expected YuNet's ONNX weights)")
        try:
            self._net = cv2.FaceDetectorYN.create(self.path, "", (self._INPUT, self._INPUT), min_score)
            self._net.detect(np.zeros((self._INPUT, self._INPUT, 3), np.uint8))
        except cv2.error as error:
            raise ValueError(
                f"{path}: not a YuNet model that OpenCV {cv2.__version__} can read, expected the ONNX export with a fixed "
                f"{self._INPUT}×{self._INPUT} input ({error.err})"
            ) from error

    def __reduce__(self) -> tuple[type[YuNetDetector], tuple[str, float]]:
        """Pickles as its settings: the network can't travel between processes."""
        return YuNetDetector, (self.path, self.min_score)

    def detect(self, frame: np.ndarray) -> list[Face]:
        """See `FaceDetector.detect`."""
        scale = self._INPUT / max(frame.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=how)[: self._INPUT, : self._INPUT]
        square = np.zeros((self._INPUT, self._INPUT, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small[:, :, ::-1]  # YuNet expects BGR
        rows = self._net.detect(square)[1]
        faces = [] if rows is None else [
            Face(x=float(x), y=float(y), w=float(w), h=float(h), score=float(score))
            for (x, y, w, h), score in zip(rows[:, :4] / scale, rows[:, -1], strict=True)
        ]
        return sorted(faces, key=lambda face: -face.w)

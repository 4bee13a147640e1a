"""Face detectors behind one small protocol; whatever the detector, a box spans cheek to cheek and brow to chin.

`HaarDetector` (Viola and Jones, 2001) needs no download: OpenCV carries its cascades. `YuNetDetector` (Wu et al., 2023)
takes an ONNX file by path. Their raw boxes differ (a Haar square is wider than the face), so each detector converts its
own to that one meaning; else the crop would depend on the detector. Letters: `H W`, boxes (x, y, w, h) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import cv2
import cv2.data
import numpy as np

_Square: TypeAlias = tuple[float, float, float, float]
"""What a cascade finds: (x, y, side, votes), in pixels of the searched picture; votes are the windows that agreed."""


_MOVES = 0.35
"""How far a face moves at most from one search to the next, as a share of its width …"""
_GROWS = 1.35
"""… and how many times as large, or as small, it becomes."""


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

    working_size: int
    """Pixels of a picture's longer side that the detector makes use of: larger ones it shrinks."""

    def detect(self, frame: np.ndarray, around: Face | None = None, least: float = 0.0) -> list[Face]:
        """Finds faces in an RGB picture uint8 [H, W, 3], the largest first; an empty list where there is none.

        With `around`, where a face was a moment ago, only what lies there and is about as large need be found, and
        with `least` only what is that many pixels wide: a detector that can search less then does.
        """
        ...


class HaarDetector:
    """OpenCV's cascades: two frontal ones that check each other, and faces in profile where these find none.

    Alone, the newer frontal cascade sometimes fires on half a face, and the older one on the background; where they
    meet they are right, and the mean of their squares wavers less than either.

    Args:
        working_size: the picture's longer side is brought to this before searching; a face narrower than about a
            tenth of that side is not found.
    """

    # Squares as multiples of the face's width, measured against YuNet's boxes on the real clips (the spread over
    # clips is 0.07); their centres agree within 0.05 of the width.
    _FRONTAL_WIDTH = 1.26
    _LOOSE_WIDTH = 1.31
    _PROFILE_WIDTH = 1.35
    _SURE_VOTES = 9
    _ASPECT = 1.39

    def __init__(self, working_size: int = 272) -> None:
        if not hasattr(cv2, "CascadeClassifier"):
            raise ImportError(
                f"cv2: version {cv2.__version__} has no Haar cascades, expected opencv-python-headless<5 "
                "(and no opencv-python beside it)"
            )
        self.working_size = working_size
        self._frontal = _cascade("haarcascade_frontalface_alt2.xml")
        self._loose = _cascade("haarcascade_frontalface_default.xml")
        self._profile = _cascade("haarcascade_profileface.xml")

    def __reduce__(self) -> tuple[type[HaarDetector], tuple[int]]:
        """Pickles as its setting: cascades can't travel between processes."""
        return HaarDetector, (self.working_size,)

    def detect(self, frame: np.ndarray, around: Face | None = None, least: float = 0.0) -> list[Face]:
        """See `FaceDetector.detect`."""
        scale = min(1.0, self.working_size / max(frame.shape[:2]))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if scale < 1.0:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = cv2.equalizeHist(grey)
        if around is not None:
            return self._near(grey, around, scale)
        smallest = max(24, round(max(grey.shape) / 11), round(least * scale * self._FRONTAL_WIDTH))
        squares = _search(self._frontal, grey, smallest, neighbours=4)
        frontal = [self._face(square, self._FRONTAL_WIDTH, scale) for square in squares]
        # The second opinion is asked where the first saw something, else everywhere.
        x0, y0, x1, y1 = _surroundings(squares, grey.shape)
        second = _search(self._loose, np.ascontiguousarray(grey[y0:y1, x0:x1]), smallest, neighbours=5)
        loose = [
            self._face((x + x0, y + y0, side, votes), self._LOOSE_WIDTH, scale)
            for x, y, side, votes in second
        ]
        faces = _agree(frontal, loose, sure_votes=self._SURE_VOTES)
        return faces or self._in_profile(grey, smallest, scale)

    def _near(self, grey: np.ndarray, around: Face, scale: float) -> list[Face]:
        """What both frontal cascades find about where a face was: few places and sizes, so it takes little time."""
        x, y = (centre * scale for centre in around.centre)
        reach = 0.5 * around.w * scale * self._LOOSE_WIDTH + _MOVES * around.w * scale
        x0, y0 = max(0, round(x - reach)), max(0, round(y - reach))
        y1, x1 = max(0, round(y + reach)), max(0, round(x + reach))
        part = np.ascontiguousarray(grey[y0:y1, x0:x1])
        if not part.size:
            return []
        found = []
        for cascade, width, neighbours in (
            (self._frontal, self._FRONTAL_WIDTH, 4),
            (self._loose, self._LOOSE_WIDTH, 5),
        ):
            side = around.w * scale * width
            squares = _search(
                cascade, part, max(24, round(side / _GROWS)), neighbours, most=round(side * _GROWS)
            )
            found.append(
                [self._face((sx + x0, sy + y0, side, votes), width, scale) for sx, sy, side, votes in squares]
            )
        return _agree(*found, sure_votes=self._SURE_VOTES)

    def _in_profile(self, grey: np.ndarray, least: int, scale: float) -> list[Face]:
        """The profile cascade knows one side only: search the mirrored picture as well."""
        squares = _search(self._profile, grey, least, neighbours=5)
        mirrored = _search(self._profile, np.ascontiguousarray(grey[:, ::-1]), least, neighbours=5)
        squares += [(grey.shape[1] - x - side, y, side, votes) for x, y, side, votes in mirrored]
        faces = [self._face(square, self._PROFILE_WIDTH, scale) for square in squares]
        return drop_nested(sorted(faces, key=lambda face: -face.w))

    def _face(self, square: _Square, width: float, scale: float) -> Face:
        """Converts a cascade's square on the small picture to a face box on the frame."""
        x, y, side, votes = square
        w = side / width / scale
        h = w * self._ASPECT
        return Face(x=(x + side / 2) / scale - w / 2, y=(y + side / 2) / scale - h / 2, w=w, h=h, score=votes)


def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / name))
    if cascade.empty():
        raise FileNotFoundError(f"{name}: OpenCV's cascade is missing from {cv2.data.haarcascades}")
    return cascade


def _search(
    cascade: cv2.CascadeClassifier, grey: np.ndarray, least: int, neighbours: int, most: int | None = None
) -> list[_Square]:
    """Runs a cascade over a grey picture, for squares of so many pixels a side at least and at most."""
    limit = (0, 0) if most is None else (most, most)
    squares, votes = cascade.detectMultiScale2(
        grey, scaleFactor=1.13, minNeighbors=neighbours, minSize=(least, least), maxSize=limit
    )
    return [(float(x), float(y), float(w), float(n)) for (x, y, w, _), n in zip(squares, votes, strict=True)]


def _surroundings(squares: list[_Square], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A region (x0, y0, x1, y1) with room for whole faces around what may be parts; all where there are none."""
    height, width = shape[:2]
    if not squares:
        return 0, 0, width, height
    x0 = min(x - 1.2 * side for x, _, side, _ in squares)
    y0 = min(y - 1.2 * side for _, y, side, _ in squares)
    x1 = max(x + 2.2 * side for x, _, side, _ in squares)
    y1 = max(y + 2.2 * side for _, y, side, _ in squares)
    return max(0, int(x0)), max(0, int(y0)), min(width, int(x1) + 1), min(height, int(y1) + 1)


def _agree(frontal: list[Face], loose: list[Face], *, sure_votes: int) -> list[Face]:
    """Joins what two cascades found: pairs of like size become their mean; what only one saw needs more votes.

    Returns:
        Faces, the largest first, none inside another.
    """
    joined: list[Face] = []
    for face in loose:
        inside = [other for other in frontal if _holds(face, other)]
        like = [other for other in inside if 0.75 < other.w / face.w < 1.33]
        if like:
            x, y, w, h = np.mean([(f.x, f.y, f.w, f.h) for f in (face, like[0])], axis=0)
            joined.append(
                Face(x=float(x), y=float(y), w=float(w), h=float(h), score=face.score + like[0].score)
            )
        elif inside or face.score >= sure_votes:
            joined.append(face)
    # Where one face is certain, a doubtful second one is the background's doing.
    frontal = [face for face in frontal if not joined or face.score >= sure_votes]
    by_width = sorted(joined, key=lambda face: -face.w) + sorted(frontal, key=lambda face: -face.w)
    return sorted(drop_nested(by_width), key=lambda face: -face.w)


def _holds(face: Face, other: Face) -> bool:
    """Whether the centre of `other` lies in `face`."""
    x, y = other.centre
    return face.x <= x <= face.x + face.w and face.y <= y <= face.y + face.h


def drop_nested(faces: list[Face]) -> list[Face]:
    """Of faces in descending order of preference, drops each whose centre lies in one before it.

    Cascades also fire on parts of a face.
    """
    kept: list[Face] = []
    for face in faces:
        if not any(_holds(other, face) for other in kept):
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
        self.path, self.min_score, self.working_size = str(path), min_score, self._INPUT
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file (expected YuNet's ONNX weights)")
        try:
            self._net = cv2.FaceDetectorYN.create(self.path, "", (self._INPUT, self._INPUT), min_score)
            self._net.detect(np.zeros((self._INPUT, self._INPUT, 3), np.uint8))
        except cv2.error as error:
            raise ValueError(
                f"{path}: not a YuNet model that OpenCV {cv2.__version__} can read, "
                f"expected the ONNX export with a fixed {self._INPUT}×{self._INPUT} input ({error.err})"
            ) from error

    def __reduce__(self) -> tuple[type[YuNetDetector], tuple[str, float]]:
        """Pickles as its settings: the network can't travel between processes."""
        return YuNetDetector, (self.path, self.min_score)

    def detect(
        self,
        frame: np.ndarray,
        around: Face | None = None,  # noqa: ARG002 - all in one pass
        least: float = 0.0,  # noqa: ARG002
    ) -> list[Face]:
        """See `FaceDetector.detect`."""
        scale = self._INPUT / max(frame.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=how)[: self._INPUT, : self._INPUT]
        square = np.zeros((self._INPUT, self._INPUT, 3), np.uint8)
        square[: small.shape[0], : small.shape[1]] = small[:, :, ::-1]  # YuNet expects BGR
        rows = self._net.detect(square)[1]
        faces = (
            []
            if rows is None
            else [
                Face(x=float(x), y=float(y), w=float(w), h=float(h), score=float(score))
                for (x, y, w, h), score in zip(rows[:, :4] / scale, rows[:, -1], strict=True)
            ]
        )
        return sorted(faces, key=lambda face: -face.w)

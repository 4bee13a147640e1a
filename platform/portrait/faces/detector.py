"""Face detectors behind one small protocol; whatever the detector, a box spans cheek to cheek and brow to chin.

`YuNetDetector` (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) runs in OpenCV, versions 4 and 5, and
its weights come with this package. Letters: `H W`, boxes (x, y, w, h) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

EMBEDDED_WEIGHTS = Path(__file__).with_name("yunet.onnx")
"""Weights of the embedded detector; their licence is next to them."""


class NoFaceError(ValueError):
    """No face was found in a picture or a clip."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """A detected face, in pixels of the frame or picture; may reach out of it."""

    x: float
    """Left edge."""
    y: float
    """Top edge, about at the hairline."""
    w: float
    """Width from cheek to cheek."""
    h: float
    """Height down to the chin."""
    score: float
    """The detector's confidence: larger is more certain; only comparable within one detector."""

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the box's middle, about the bridge of the nose."""
        return self.x + self.w / 2, self.y + self.h / 2


class FaceDetector(Protocol):
    """Anything that finds faces in one frame or picture."""

    working_size: int
    """Pixels of the longer side that are enough for the detector: callers may shrink frames to it."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        """Finds faces in RGB uint8 [H, W, 3]: the widest first; empty if none is found."""
        ...


class YuNetDetector:
    """YuNet in OpenCV.

    Frames are shrunk to `working_size`, where faces from about 10 pixels of width on are found. Where none is found, a
    larger picture is searched again at two and four times that size.

    Args:
        path: the ONNX file, an export with a fixed input size (OpenCV 4 can't read those with dynamic shapes); by
            default the embedded weights.
        min_score: faces below this confidence (0…1) are dropped.
        working_size: pixels of the longer side of a frame as it is searched.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a YuNet model.
    """

    _FINER = (1, 2, 4)
    _STRIDE = 32
    """The network's coarsest grid, in pixels."""

    def __init__(
        self, path: str | Path | None = None, min_score: float = 0.6, working_size: int = 320
    ) -> None:
        self.path = str(path or EMBEDDED_WEIGHTS)
        self.min_score, self.working_size = min_score, working_size
        if not Path(self.path).is_file():
            raise FileNotFoundError(f"{self.path}: no such file (expected YuNet's ONNX weights)")
        try:
            self._net = cv2.FaceDetectorYN.create(self.path, "", (working_size, working_size), min_score)
            self._net.detect(np.zeros((working_size, working_size, 3), np.uint8))
        except cv2.error as error:
            raise ValueError(
                f"{self.path}: not a YuNet model that OpenCV {cv2.__version__} can read, "
                f"expected an ONNX export with a fixed input size ({error.err})"
            ) from error

    def __reduce__(self) -> tuple[type[YuNetDetector], tuple[str, float, int]]:
        """Pickles as its settings: the network can't travel between processes."""
        return YuNetDetector, (self.path, self.min_score, self.working_size)

    def detect(self, frame: np.ndarray) -> list[Face]:
        """See `FaceDetector.detect`."""
        longest = max(frame.shape[:2])
        for factor in self._FINER:
            faces = self._search(frame, min(1.0, factor * self.working_size / longest))
            if faces or factor * self.working_size >= longest:
                return faces
        return []

    def _search(self, frame: np.ndarray, scale: float) -> list[Face]:
        """Searches a frame shrunk by a factor."""
        small = frame
        if scale < 1.0:
            size = tuple(max(1, round(side * scale)) for side in frame.shape[1::-1])
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        height, width = small.shape[:2]
        padded = [-(-side // self._STRIDE) * self._STRIDE for side in (height, width)]
        canvas = np.zeros((*padded, 3), np.uint8)
        canvas[:height, :width] = small[:, :, ::-1]  # YuNet expects BGR
        self._net.setInputSize((padded[1], padded[0]))
        rows = self._net.detect(canvas)[1]
        if rows is None:
            return []
        faces = [
            Face(x=float(x), y=float(y), w=float(w), h=float(h), score=float(score))
            for (x, y, w, h), score in zip(rows[:, :4] / scale, rows[:, -1], strict=True)
        ]
        return sorted(faces, key=lambda face: -face.w)

"""Quality scores of a clip, stored as columns so that thresholds can be applied later by a query.

All are measured on grey levels 0 … 255: frames uint8 [T, H, W], or a sequence of [H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np


def sharpness(frames: Sequence[np.ndarray] | np.ndarray, boxes: np.ndarray) -> float:
    """Variance of the Laplacian of the face, in squared grey levels, averaged over up to eight frames.

    Args:
        frames: T grey frames.
        boxes: [T, 4] faces (x, y, w, h) in pixels of the frames.
    """
    scores = [cv2.Laplacian(face, cv2.CV_32F).var() for face in _faces(frames, boxes)]
    return float(np.mean(scores)) if scores else 0.0


def brightness(frames: Sequence[np.ndarray] | np.ndarray, boxes: np.ndarray) -> float:
    """Mean level of the face over up to eight frames; arguments as in `sharpness`."""
    levels = [face.mean() for face in _faces(frames, boxes)]
    return float(np.mean(levels)) if levels else 0.0


def _faces(frames: Sequence[np.ndarray] | np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """The face in up to eight frames, evenly spread, [h, w]."""
    faces = []
    for i in np.unique(np.linspace(0, len(frames) - 1, 8).round().astype(int)):
        x, y, w, h = np.round(boxes[i]).astype(int)
        face = frames[i][max(0, y) : y + h, max(0, x) : x + w]
        if face.size:
            faces.append(np.ascontiguousarray(face))
    return faces


def motion(frames: Sequence[np.ndarray] | np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames, in levels."""
    if len(frames) < 2:
        return 0.0
    return float(np.mean([cv2.norm(a, b, cv2.NORM_L1) / a.size for a, b in pairwise(frames)]))

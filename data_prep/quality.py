"""Scores of a clip, stored as columns so that every threshold is a query later. Letters: T frames, H W."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np


def sharpness(frames: np.ndarray, boxes: np.ndarray) -> float:
    """Variance of the Laplacian of the face, in squared grey levels, averaged over up to eight frames.

    Args:
        frames: uint8 [T, H, W, 3].
        boxes: [T, 4] faces (x, y, w, h) in pixels of the frames.
    """
    scores = [cv2.Laplacian(face, cv2.CV_32F).var() for face in _grey_faces(frames, boxes)]
    return float(np.mean(scores)) if scores else 0.0


def brightness(frames: np.ndarray, boxes: np.ndarray) -> float:
    """Mean level 0 … 255 of the face over up to eight frames; arguments as in `sharpness`."""
    levels = [face.mean() for face in _grey_faces(frames, boxes)]
    return float(np.mean(levels)) if levels else 0.0


def _grey_faces(frames: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """The face in up to eight frames, evenly spread, grey uint8 [h, w]."""
    faces = []
    for i in np.unique(np.linspace(0, len(frames) - 1, 8).round().astype(int)):
        x, y, w, h = np.round(boxes[i]).astype(int)
        face = frames[i, max(0, y) : y + h, max(0, x) : x + w]
        if face.size:
            faces.append(cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2GRAY))
    return faces


def motion(frames: np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames uint8 [T, H, W, 3], in levels of 0 … 255."""
    if len(frames) < 2:
        return 0.0
    return float(np.mean([cv2.absdiff(a, b).mean() for a, b in pairwise(frames)]))

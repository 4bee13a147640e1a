"""Scores of a clip, stored as columns so that every threshold is a query later. Letters: T frames, H W, S samples."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

SAMPLES_PER_FRAME = 640
SPEECH_RANGE_DB = 25.0
"""A frame counts as speech within this of the clip's loud frames (their 95th percentile) …"""
SPEECH_FLOOR_DBFS = -50.0
"""… and above this level."""


def sharpness(frames: np.ndarray, boxes: np.ndarray) -> float:
    """Variance of the Laplacian of the face, in squared grey levels, averaged over up to eight frames.

    Args:
        frames: uint8 [T, H, W, 3].
        boxes: [T, 4] faces (x, y, w, h) in pixels of the frames.
    """
    scores = []
    for i in np.unique(np.linspace(0, len(frames) - 1, 8).round().astype(int)):
        x, y, w, h = np.round(boxes[i]).astype(int)
        face = frames[i, max(0, y) : y + h, max(0, x) : x + w]
        if face.size:
            grey = cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2GRAY)
            scores.append(cv2.Laplacian(grey, cv2.CV_32F).var())
    return float(np.mean(scores)) if scores else 0.0


def motion(frames: np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames uint8 [T, H, W, 3], in levels of 0 … 255."""
    if len(frames) < 2:
        return 0.0
    return float(np.mean([cv2.absdiff(a, b).mean() for a, b in pairwise(frames)]))


def speech_ratio(audio: np.ndarray) -> float:
    """Share of the 40 ms frames of 16 kHz audio [S] that are loud enough to be speech, by energy alone, 0 … 1."""
    frames = audio[: len(audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    if not len(frames):
        return 0.0
    level_db = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-12)
    threshold = max(float(np.percentile(level_db, 95)) - SPEECH_RANGE_DB, SPEECH_FLOOR_DBFS)
    return float((level_db > threshold).mean())

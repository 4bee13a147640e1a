"""Motion of a head, and the diversity of several takes of the same speech.

Letters: `T` frames, `N` takes, `D` values per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray


def head_motion(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shift of each frame's content from the first frame, by phase correlation (Kuglin and Hines 1975).

    For a head in front of a still background it is a mixture of both: it distinguishes a frozen head from a
    moving one, but does not give its pose.

    Args:
        frames: RGB [T, H, W, 3].

    Returns:
        float32 [T, 2], right and down, as fractions of the frame's width and height.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    height, width = grey[0].shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    # Copies, because OpenCV multiplies its arguments by the window in place.
    moved = [cv2.phaseCorrelate(grey[0].copy(), picture.copy(), window)[0] for picture in grey]
    return np.array(moved, np.float32) / np.array([width, height], np.float32)


def spread_of_motion(
    frames: NDArray[np.uint8], truth: NDArray[np.uint8], *, latent_frames: int = 4
) -> tuple[float, float]:
    """Change from frame to frame of a decoded video, as shares of that of the true video: within the frames of a
    latent, and from one latent to the next.

    The change is the mean absolute difference of neighbouring frames. A decoder that makes the four frames of a latent
    alike has shares of 0 and about 4; 1 and 1 are ideal.

    Args:
        frames: [T, H, W, 3], T = 1 + a multiple of `latent_frames`: the first frame has a latent of its own.
        truth: the video that was encoded, of the same shape.
        latent_frames: frames of a latent.

    Raises:
        ValueError: the shapes differ, or T is out of range.
    """
    if frames.shape != truth.shape or len(frames) < 1 + latent_frames or (len(frames) - 1) % latent_frames:
        raise ValueError(
            f"frames: expected two videos of the same shape with 1 + a multiple of {latent_frames} frames, "
            f"got {list(frames.shape)} and {list(truth.shape)}"
        )
    steps, true_steps = (
        np.array([cv2.norm(a, b, cv2.NORM_L1) for a, b in pairwise(video)]).reshape(-1, latent_frames)
        for video in (frames, truth)
    )
    between, within = steps[:, 0].mean(), steps[:, 1:].mean()
    return float(within / true_steps[:, 1:].mean()), float(between / true_steps[:, 0].mean())


def diversity(takes: Sequence[NDArray[np.float32]]) -> float:
    """Mean pairwise distance of takes: Euclidean for each frame, then averaged over frames and pairs.

    Args:
        takes: N ≥ 2 curves [T] or [T, D] of the same length.

    Raises:
        ValueError: there are fewer than two takes, or their shapes differ.
    """
    if len(takes) < 2 or len({take.shape for take in takes}) > 1:
        raise ValueError(
            f"diversity: expected at least two takes of the same shape, got {[list(take.shape) for take in takes]}"
        )
    curves = [take.reshape(len(take), -1) for take in takes]
    return float(np.mean([np.linalg.norm(a - b, axis=1).mean() for a, b in combinations(curves, 2)]))

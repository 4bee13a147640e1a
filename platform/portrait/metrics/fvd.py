"""FVD25: the Fréchet video distance over windows of 25 consecutive frames (Unterthiner et al. 2019; the window is the
paper's, section "Experiments").

Letters: `T` frames of H × W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.metrics.frechet import Moments, frechet_distance

WINDOW_FRAMES = 25
"""One second at 25 frames/s."""


def windows(frames: NDArray[np.uint8], stride: int = WINDOW_FRAMES) -> Iterator[NDArray[np.uint8]]:
    """Windows uint8 [25, H, W, 3] of a video, `stride` frames apart; a shorter remainder is unused.

    Raises:
        ValueError: the video is not uint8 [T, H, W, 3], or is shorter than a window.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames: found {frames.dtype} {list(frames.shape)}, expected uint8 [T, H, W, 3]")
    if len(frames) < WINDOW_FRAMES:
        raise ValueError(f"frames: found a video of {len(frames)} frames, expected at least {WINDOW_FRAMES}")
    for start in range(0, len(frames) - WINDOW_FRAMES + 1, stride):
        yield frames[start : start + WINDOW_FRAMES]


def video_moments(
    videos: Iterable[NDArray[np.uint8]], features: Callable[[Tensor], Tensor], *, stride: int = WINDOW_FRAMES
) -> Moments:
    """Moments of the features of all windows of all videos, one window in memory at a time.

    Args:
        videos: each uint8 [T, H, W, 3], of any length of at least 25 frames and any size.
        features: video [1, 3, 25, H, W] in [−1, 1] to features [1, D], such as `I3DFeatures`.
        stride: frames between the starts of neighbouring windows.

    Raises:
        ValueError: there is no video, or as `windows`.
    """
    total: Moments | None = None
    for frames in videos:
        found = [features(_tensor(window)).numpy() for window in windows(frames, stride)]
        moments = Moments.of(np.concatenate(found))
        total = moments if total is None else total.merge(moments)
    if total is None:
        raise ValueError("no video to measure")
    return total


def fvd(generated: Moments, reference: Moments) -> float:
    """FVD25 of two sets of videos, given their `video_moments`; 0 if they are alike."""
    return frechet_distance(generated, reference)


def _tensor(window: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(window.astype(np.float32) / 127.5 - 1).permute(3, 0, 1, 2)[None]

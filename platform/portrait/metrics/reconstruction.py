"""PSNR and L1 between clips.

Clips are tensors in [-1, 1], so the data range is 2. Both metrics are reported on the scale that papers use: PSNR does
not depend on the range, L1 is that of frames in [0, 1]. Shapes: B clips; all other axes (3, T, H, W) are averaged over.
"""

from __future__ import annotations

import torch
from torch import Tensor

DATA_RANGE = 2.0


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each clip, 10 log10(2² / MSE); inf if the clips are equal.

    The squared error is averaged over the whole clip before the logarithm, so a clip's PSNR is not the mean
    of its frames' PSNR.

    Args:
        a, b: [B, ...] in [-1, 1].

    Returns:
        float32 [B].

    Raises:
        ValueError: shapes differ, or there is nothing to average over.
    """
    error = (_floats(a, b) ** 2).flatten(1).mean(1)
    return 10 * torch.log10(DATA_RANGE**2 / error)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each clip on the scale of frames in [0, 1], so half of that of the arguments.

    Args:
        a, b: [B, ...] in [-1, 1].

    Returns:
        float32 [B] in [0, 1].

    Raises:
        ValueError: shapes differ, or there is nothing to average over.
    """
    return _floats(a, b).abs().flatten(1).mean(1) / DATA_RANGE


def _floats(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape or a.ndim < 2 or a.numel() == 0:
        raise ValueError(
            f"a and b: found shapes {tuple(a.shape)} and {tuple(b.shape)}, expected the same [B, ...], not empty"
        )
    return a.float() - b.float()

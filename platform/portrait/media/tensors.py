"""Frames as bytes and as tensors: uint8 RGB [T, H, W, 3] on one side, float32 [3, T, H, W] in [-1, 1] on the other.

The range and layout are those of the paper's video VAE. Letters: `T` frames, `C H W`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def frames_to_tensor(frames: np.ndarray | Tensor) -> Tensor:
    """Converts uint8 RGB frames [T, H, W, 3] to float32 [3, T, H, W] in [-1, 1] (0 → -1, 255 → 1).

    Raises:
        ValueError: another shape or dtype.
    """
    frames = torch.from_numpy(np.ascontiguousarray(frames)) if isinstance(frames, np.ndarray) else frames
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8:
        raise ValueError(
            f"frames: expected uint8 [T, H, W, 3], found {str(frames.dtype).removeprefix('torch.')} "
            f"{list(frames.shape)}"
        )
    return frames.permute(3, 0, 1, 2).to(torch.float32).div_(127.5).sub_(1.0).contiguous()


def tensor_to_frames(video_CTHW: Tensor) -> np.ndarray:
    """Converts a video tensor [3, T, H, W] in [-1, 1] to uint8 RGB frames [T, H, W, 3]; values outside are clamped.

    Raises:
        ValueError: another shape.
    """
    if video_CTHW.ndim != 4 or video_CTHW.shape[0] != 3:
        raise ValueError(f"video: expected [3, T, H, W], found {list(video_CTHW.shape)}")
    video = video_CTHW.detach().to("cpu", torch.float32)
    levels = video.add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0)
    return levels.to(torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()

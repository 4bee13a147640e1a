"""How far a mouth is open, measured in single frames.

A small convolutional network maps the lower middle of a portrait crop to the gap between the lips. It is fitted to
rendered heads whose gap is known (`fit_lip_aperture.py`), under blur, noise, shifts and changes of colour, so that it
can also read the soft frames of a VAE.

It assumes the portrait crop of `portrait.faces` (head and shoulders, mouth between 45 % and 87 % of the height, near
the middle). On synthetic heads it was not fitted to, its mean error is about 2 % of the full opening (tests: 5 %).
It is not validated on photographs: on five real clips its correlation with the loudness was between -0.24 and 0.25, so
draw no conclusion from it there. Letters: `T` frames, `H W` of a frame, `N` crops.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

PICTURE = 128
"""Side in pixels to which frames are resized before the crop."""
CROP = (slice(56, 112), slice(28, 100))
"""Rows and columns of the crop in a frame of 128²."""
WEIGHTS = Path(__file__).with_name("lip_aperture.safetensors")


class ApertureNet(nn.Module):
    """Crops [N, 3, 56, 72] in [0, 1] → gap between the lips [N] as a fraction of the frame's height."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 24, 40, 40, 56, 56)
        strides = (2, 1, 2, 1, 2, 1)
        layers: list[nn.Module] = []
        channels = 3
        for width, stride in zip(widths, strides, strict=True):
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(2 * channels, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, crops: Tensor) -> Tensor:
        # Exposure and contrast say nothing about the gap.
        mean = crops.mean((1, 2, 3), keepdim=True)
        deviation = crops.std((1, 2, 3), keepdim=True)
        maps = self.features((crops - mean) / (deviation + 0.02))
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)
        return 0.1 * self.head(pooled)[:, 0]


def mouth_crops(frames: np.ndarray) -> np.ndarray:
    """Lower middle of portrait crops: uint8 [T, H, W, 3] → uint8 [T, 56, 72, 3]."""
    if frames.shape[1] == PICTURE:
        return frames[:, *CROP]
    shrink = frames.shape[1] > PICTURE
    resized = [
        cv2.resize(f, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
        for f in frames
    ]
    return np.stack([image[CROP] for image in resized])


@functools.cache
def _network() -> ApertureNet:
    from safetensors.torch import load_file

    network = ApertureNet()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return network.eval().requires_grad_(False)


def lip_aperture(frames: np.ndarray, *, batch_size: int = 64) -> np.ndarray:
    """Measures the gap between the lips in every frame.

    Args:
        frames: square portrait crops, uint8 RGB [T, H, W, 3].
        batch_size: frames per pass.

    Returns:
        float32 [T], the gap at the middle of the mouth as a fraction of the frame's height, at least 0.

    Raises:
        ValueError: `frames` are not square uint8 frames [T, H, W, 3].
    """
    if (
        frames.ndim != 4
        or frames.shape[-1] != 3
        or frames.shape[1] != frames.shape[2]
        or frames.dtype != np.uint8
    ):
        raise ValueError(
            f"frames: found {frames.dtype} {frames.shape}, expected uint8 [T, H, W, 3] with H = W"
        )
    if len(frames) == 0:
        return np.zeros(0, np.float32)
    crops = mouth_crops(frames)
    gaps = []
    with torch.inference_mode():
        for start in range(0, len(crops), batch_size):
            batch = torch.from_numpy(np.ascontiguousarray(crops[start : start + batch_size]))
            gaps.append(_network()(batch.permute(0, 3, 1, 2).float() / 255))
    return torch.cat(gaps).clamp_min(0).numpy().astype(np.float32)

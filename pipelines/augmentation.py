"""Random changes of a training clip's appearance, the same for all its frames and references.

A few hundred people are few for what has to do without references: mirrored and recoloured, each is many.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def augment(
    video: Tensor, references: Tensor, *, mirror: float, colour_jitter: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mirrors and recolours whole examples.

    Args:
        video: [B, 3, T, H, W] in [−1, 1].
        references: [B, M, 3, H, W] in [−1, 1].
        mirror: share of the examples that are mirrored left to right.
        colour_jitter: 0 … 1, strength of the recolouring: each channel is multiplied by up to (1 + strength) or divided
            by it, and hues are turned by up to strength × 180°.
        rng: on the CPU; all draws come from it.

    Returns:
        Both, in [−1, 1].
    """
    batch = video.shape[0]
    if mirror:
        flipped = torch.rand(batch, generator=rng) < mirror
        mask = flipped.to(video.device).view(-1, 1, 1, 1, 1)
        video = torch.where(mask, video.flip(-1), video)
        references = torch.where(mask, references.flip(-1), references)
    if colour_jitter:
        matrices = colour_matrices(batch, colour_jitter, rng).to(video)
        video = _recolour("bcd,bdthw->bcthw", matrices, video)
        references = _recolour("bcd,bmdhw->bmchw", matrices, references)
    return video, references


def colour_matrices(batch: int, strength: float, rng: torch.Generator) -> Tensor:
    """Random changes of colour, float32 [B, 3, 3] for RGB in [0, 1]: a turn about grey, then a gain of each channel."""
    angle = (torch.rand(batch, generator=rng) * 2 - 1) * strength * math.pi
    # Rodrigues' rotation about (1, 1, 1)/√3
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    sin, cos = angle.sin().view(-1, 1, 1), angle.cos().view(-1, 1, 1)
    turn = torch.eye(3) + sin * axis + (1 - cos) * axis @ axis
    gain = (1 + strength) ** (torch.rand(batch, 3, 1, generator=rng) * 2 - 1)
    return gain * turn


def _recolour(equation: str, matrices: Tensor, pictures: Tensor) -> Tensor:
    return (torch.einsum(equation, matrices, pictures * 0.5 + 0.5) * 2 - 1).clamp(-1, 1)

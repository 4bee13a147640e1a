"""Random changes of training clips: of their appearance, the same for all frames and references, and of the placement
of references.

A few hundred people are few for a model that must also reconstruct without references; mirrored and recoloured, each of
them stands for many.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_ROTATION = math.radians(9)
"""Largest rotation of a jittered reference."""
MAX_SCALE = 1.15
"""Largest factor by which it is enlarged or reduced."""
MAX_SHIFT = 0.1
"""Largest shift in either direction, as a share of the picture's side."""


def augment(
    video: Tensor, references: Tensor, *, mirror: float, colour_jitter: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mirrors and recolours whole examples.

    Args:
        video: [B, 3, T, H, W] in [−1, 1].
        references: [B, M, 3, H, W] in [−1, 1].
        mirror: share of the examples that are mirrored left to right.
        colour_jitter: 0 … 1, strength of the recolouring: each channel is multiplied by up to (1 + strength) or divided
            by it, and hues are rotated by up to strength × 180°.
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
    """Random colour changes, float32 [B, 3, 3], for RGB in [0, 1]: a rotation about grey, then a gain per channel.

    Args:
        batch: B.
        strength: 0 … 1: up to strength × 180° and gains of 1 / (1 + strength) … 1 + strength.
        rng: on the CPU; all draws come from it.
    """
    angle = (torch.rand(batch, generator=rng) * 2 - 1) * strength * math.pi
    # Rodrigues' rotation about (1, 1, 1)/√3
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    sin, cos = angle.sin().view(-1, 1, 1), angle.cos().view(-1, 1, 1)
    turn = torch.eye(3) + sin * axis + (1 - cos) * axis @ axis
    gain = (1 + strength) ** (torch.rand(batch, 3, 1, generator=rng) * 2 - 1)
    return gain * turn


def _recolour(equation: str, matrices: Tensor, pictures: Tensor) -> Tensor:
    return (torch.einsum(equation, matrices, pictures * 0.5 + 0.5) * 2 - 1).clamp(-1, 1)


def jitter_references(references_BMCHW: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Rotates, scales and shifts some of the references, each on its own.

    A user's photographs never line up with the frames that are decoded. Those of a clip before a fixed camera do, so a
    decoder trained on such clips alone copies only from the same place.

    Args:
        references_BMCHW: [B, M, 3, H, W] in [−1, 1].
        share: share of the references that are moved, 0 … 1; what comes in from outside repeats the picture's edge.
        rng: on the CPU; all draws come from it.

    Returns:
        [B, M, 3, H, W]; the others are unchanged.
    """
    if not share or not references_BMCHW.numel():
        return references_BMCHW
    pictures = references_BMCHW.flatten(0, 1)
    moved = torch.rand(len(pictures), generator=rng) < share
    theta = random_placements(len(pictures), rng).to(pictures)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    jittered = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    mask = moved.to(pictures.device).view(-1, 1, 1, 1)
    return torch.where(mask, jittered, pictures).unflatten(0, references_BMCHW.shape[:2])


def random_placements(count: int, rng: torch.Generator) -> Tensor:
    """Random similarity transforms for `affine_grid`, float32 [count, 2, 3], up to the module's largest changes."""
    angle, log_scale, *shift = (torch.rand(4, count, generator=rng) * 2 - 1).unbind()
    angle, scale = angle * MAX_ROTATION, MAX_SCALE**log_scale
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # affine_grid's coordinates span 2 over the picture's side.
    rows = torch.stack([cos, -sin, 2 * MAX_SHIFT * shift[0], sin, cos, 2 * MAX_SHIFT * shift[1]], dim=-1)
    return rows.unflatten(-1, (2, 3))

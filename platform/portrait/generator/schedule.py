"""Noise levels: the sampler's steps and the training's draws.

The shift t ↦ s·t / (1 + (s − 1)·t) moves levels towards noise, where a video's structure is decided (Stable Diffusion
3, "Resolution-dependent shifting of timestep schedules").
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_levels(level: Tensor, shift: float) -> Tensor:
    """Moves levels in [0, 1] towards 1; keeps 0 and 1, and everything at shift 1."""
    return shift * level / (1 + (shift - 1) * level)


def sampling_levels(steps: int, shift: float) -> Tensor:
    """The sampler's levels, float32 [steps + 1], falling from 1 to 0."""
    if steps < 1:
        raise ValueError(f"sampling.steps must be at least 1, got {steps}")
    return shift_levels(torch.linspace(1, 0, steps + 1), shift)


def training_levels(shape: tuple[int, ...], shift: float, rng: torch.Generator) -> Tensor:
    """Levels drawn uniformly, then shifted: the density that the sampler's steps have."""
    return shift_levels(torch.rand(shape, generator=rng), shift)

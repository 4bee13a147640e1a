"""Timesteps t of the flow, from 0 (data) to 1 (noise): the sampler's steps and the training's draws.

The shift t ↦ s·t / (1 + (s − 1)·t) moves timesteps towards noise, where a video's structure is decided (Stable
Diffusion 3, "Resolution-dependent shifting of timestep schedules").
"""

from __future__ import annotations

import torch
from torch import Tensor


def shift_timesteps(timestep: Tensor, shift: float) -> Tensor:
    """Moves timesteps in [0, 1] towards 1; 0 and 1 stay, and a shift of 1 changes nothing."""
    return shift * timestep / (1 + (shift - 1) * timestep)


def sampling_timesteps(steps: int, shift: float) -> Tensor:
    """The sampler's timesteps, float32 [steps + 1], falling from 1 to 0.

    Raises:
        ValueError: `steps` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"sampling.steps must be at least 1, got {steps}")
    return shift_timesteps(torch.linspace(1, 0, steps + 1), shift)


def training_timesteps(shape: tuple[int, ...], shift: float, rng: torch.Generator) -> Tensor:
    """Timesteps drawn uniformly, then shifted: the same density as the sampler's steps."""
    return shift_timesteps(torch.rand(shape, generator=rng), shift)

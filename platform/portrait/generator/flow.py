"""Rectified flow's path: the straight line z^t = (1 − t)·z⁰ + t·ε from data to noise (paper, "Blockwise autoregressive
latent generation"; Liu et al. 2022, arXiv 2209.03003).

Shapes: B batch, C channels, L latents, N blocks.
"""

from __future__ import annotations

from torch import Tensor

from portrait.timing import LATENTS_PER_BLOCK


def interpolate(clean: Tensor, noise: Tensor, timestep: Tensor | float) -> Tensor:
    """z^t = (1 − t)·z⁰ + t·ε; `timestep` is broadcast."""
    return (1 - timestep) * clean + timestep * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """The path's derivative by t, ε − z⁰."""
    return noise - clean


def per_latent(timestep_BN: Tensor) -> Tensor:
    """One value per block [B, N] → one per latent, [B, 1, L, 1, 1], to be broadcast over latents [B, C, L, H, W]."""
    return timestep_BN.repeat_interleave(LATENTS_PER_BLOCK, dim=1)[:, None, :, None, None]

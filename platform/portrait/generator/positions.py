"""Positions of the generator's tokens: (time, row, column), from which the rotary embedding computes its angles.

Video tokens count time in latents from the window's beginning. References have no time of their own, and neither have
the window tokens: all share the one of a block before the window, k latents back, which no video token has.

Shapes: `L` latents, `S` tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from portrait.generator.config import GeneratorConfig
from portrait.layers.rotary import rotary_angles
from portrait.timing import LATENTS_PER_BLOCK


def latent_positions(size: int, first: Tensor | int, latents: int, device: torch.device) -> Tensor:
    """Positions of the tokens of consecutive latents.

    Args:
        size: height and width of a latent.
        first: time of the first latent, an int or [B].
        latents: L.
        device: where to compute them.

    Returns:
        [S, 3] or [B, S, 3], S = L·size².
    """
    axes = [torch.arange(extent, device=device) for extent in (latents, size, size)]
    positions_S3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
    if isinstance(first, int):
        first = torch.tensor(first, device=device)
    offset = torch.stack((first, torch.zeros_like(first), torch.zeros_like(first)), dim=-1)
    return positions_S3 + offset[..., None, :]


def prefix_positions(size: int, window_tokens: int, references: int, device: torch.device) -> Tensor:
    """Positions [S, 3] of the window tokens, then of the references' pixels."""
    pixels_S3 = latent_positions(size, 0, 1, device).repeat(references, 1)
    window_S3 = torch.zeros(window_tokens, 3, dtype=pixels_S3.dtype, device=device)
    positions_S3 = torch.cat((window_S3, pixels_S3))
    positions_S3[:, 0] = -LATENTS_PER_BLOCK
    return positions_S3


def angles_of(positions: Tensor, config: GeneratorConfig) -> Tensor:
    """Rotary angles [..., S, E/2]: a third of a head's channels turns with the row, a third with the column, the rest
    with time.
    """
    space = 2 * (config.head_dim // 6)
    return rotary_angles(positions, (config.head_dim - 2 * space, space, space), config.rope_base)

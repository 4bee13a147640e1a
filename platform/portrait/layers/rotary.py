"""Rotary position embedding over any number of axes (RoFormer; the paper uses three for the generator, D_ref two).

The channels of a head are split over the axes; each axis rotates its own pairs of channels by position × frequency.
Shapes: `L` tokens, `A` axes, `D` channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, dims: Sequence[int], base: float) -> Tensor:
    """The angle by which every pair of channels is rotated at every position.

    Args:
        positions: [..., L, A], coordinates of the tokens; any real numbers.
        dims: channels for each of the A axes, even; their sum is the head's D.
        base: the slowest pair of an axis rotates about once in 2π·base positions.

    Returns:
        float32 [..., L, D/2].
    """
    if positions.shape[-1] != len(dims):
        raise ValueError(f"positions have {positions.shape[-1]} axes, dims has {len(dims)}")
    if any(dim % 2 for dim in dims):
        raise ValueError(f"channels of every axis must be even, got {tuple(dims)}")
    angles = []
    for axis, dim in enumerate(dims):
        exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) / max(dim, 1)
        angles.append(positions[..., axis, None].float() * base**-exponents)
    return torch.cat(angles, dim=-1)


def apply_rotary(x: Tensor, angles: Tensor) -> Tensor:
    """Rotates neighbouring channels (2i, 2i+1) of `x` by `angles`.

    Args:
        x: [..., L, D], queries or keys.
        angles: [..., L, D/2], broadcast against x's leading dimensions.

    Returns:
        [..., L, D] in x's type; computed in float32.
    """
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)

"""Causal residual resampling, CR-VA (paper, "Causal residual video auto-encoding"; DC-AE, arXiv 2410.10733, in 2-D).

Every change of resolution is two steps, time then space on the way down and space then time on the way up. A step adds
a convolution (the main branch) to a shortcut without parameters: PixelUnshuffle3d and the mean over groups of channels
on the way down, repeated channels and PixelShuffle3d on the way up. The first frame never enters a temporal step.

Shapes: B batch, C channels, T frames, H × W pixels; r_t, r_s the factors in time and space.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from portrait.layers.causal_conv import CausalConv3d, History, delta_orthogonal_

MAIN_GAIN = 0.5
"""Initial gain of a main branch: beside the shortcut, whose gain is 1, it neither drowns nor amplifies the signal."""


def pixel_unshuffle3d(x_BCTHW: Tensor, time: int, space: int) -> Tensor:
    """[B, C, T·r_t, H·r_s, W·r_s] → [B, C·r_t·r_s², T, H, W]; channels made of channel c stay adjacent."""
    return rearrange(x_BCTHW, "b c (t rt) (h rh) (w rw) -> b (c rt rh rw) t h w", rt=time, rh=space, rw=space)


def pixel_shuffle3d(x_BCTHW: Tensor, time: int, space: int) -> Tensor:
    """[B, C·r_t·r_s², T, H, W] → [B, C, T·r_t, H·r_s, W·r_s]; undoes `pixel_unshuffle3d`."""
    return rearrange(x_BCTHW, "b (c rt rh rw) t h w -> b c (t rt) (h rh) (w rw)", rt=time, rh=space, rw=space)


def match_channels(x_BCTHW: Tensor, channels: int) -> Tensor:
    """Averages groups of neighbouring channels, or repeats each channel, to get `channels` of them.

    Raises:
        ValueError: neither number divides the other.
    """
    have = x_BCTHW.shape[1]
    _check_shortcut(have, channels)
    if have == channels:
        return x_BCTHW
    if have > channels:
        return x_BCTHW.unflatten(1, (channels, have // channels)).mean(dim=2)
    return x_BCTHW.repeat_interleave(channels // have, dim=1)


def _check_shortcut(have: int, channels: int) -> None:
    if have % channels and channels % have:
        raise ValueError(f"a shortcut from {have} to {channels} channels: one number must divide the other")


class Downsample(nn.Module):
    """One step down in time or space (factor 1: a change of width only): main branch plus shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, *, time: int = 1, space: int = 1, residual: bool
    ) -> None:
        super().__init__()
        self.time, self.space, self.out_channels, self.residual = time, space, out_channels, residual
        folded, remainder = divmod(out_channels, time * space**2)
        if remainder:
            raise ValueError(f"{out_channels} channels cannot be unshuffled by {time}×{space}×{space}")
        _check_shortcut(in_channels * time * space**2, out_channels)
        self.conv = CausalConv3d(in_channels, folded, kernel_time=1)
        delta_orthogonal_(self.conv, MAIN_GAIN)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        main = pixel_unshuffle3d(self.conv(x_BCTHW), self.time, self.space)
        if not self.residual:
            return main
        return main + match_channels(pixel_unshuffle3d(x_BCTHW, self.time, self.space), self.out_channels)


class Upsample(nn.Module):
    """One step up in time or space (factor 1: a change of width only): main branch plus shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, *, time: int = 1, space: int = 1, residual: bool
    ) -> None:
        super().__init__()
        self.time, self.space, self.residual = time, space, residual
        self.folded = out_channels * time * space**2
        _check_shortcut(in_channels, self.folded)
        self.conv = CausalConv3d(in_channels, self.folded, kernel_time=1)
        delta_orthogonal_(self.conv, MAIN_GAIN)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        main = self.conv(x_BCTHW)
        if self.residual:
            main = main + match_channels(x_BCTHW, self.folded)
        return pixel_shuffle3d(main, self.time, self.space)


class TemporalStep(nn.Module):
    """A temporal `Downsample` or `Upsample` that the clip's first frame bypasses."""

    def __init__(self, step: Downsample | Upsample) -> None:
        super().__init__()
        self.step = step

    def forward(self, x_BCTHW: Tensor, history: History | None = None) -> Tensor:
        if history is not None and not history.at_start:
            return self.step(x_BCTHW)
        first, rest = x_BCTHW[:, :, :1], x_BCTHW[:, :, 1:]
        if rest.shape[2] == 0:
            return first
        return torch.cat([first, self.step(rest)], dim=2)


def resample_down(
    in_channels: int, out_channels: int, *, time: int, space: int, residual: bool
) -> nn.ModuleList:
    """The steps from one level to the next deeper one: time, then space."""
    steps = nn.ModuleList()
    if time > 1:
        steps.append(TemporalStep(Downsample(in_channels, in_channels, time=time, residual=residual)))
    if space > 1 or in_channels != out_channels:
        steps.append(Downsample(in_channels, out_channels, space=space, residual=residual))
    return steps


def resample_up(
    in_channels: int, out_channels: int, *, time: int, space: int, residual: bool
) -> nn.ModuleList:
    """The steps from one level to the next shallower one: space, then time."""
    steps = nn.ModuleList()
    if space > 1 or in_channels != out_channels:
        steps.append(Upsample(in_channels, out_channels, space=space, residual=residual))
    if time > 1:
        steps.append(TemporalStep(Upsample(out_channels, out_channels, time=time, residual=residual)))
    return steps


def run_steps(steps: nn.ModuleList, x_BCTHW: Tensor, history: History | None) -> Tensor:
    """Applies the steps of `resample_down` or `resample_up`."""
    for step in steps:
        x_BCTHW = step(x_BCTHW, history) if isinstance(step, TemporalStep) else step(x_BCTHW)
    return x_BCTHW

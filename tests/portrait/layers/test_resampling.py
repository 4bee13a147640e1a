"""The parameter-free shortcuts of CR-VA against an independent reading, and the steps' behaviour in time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from portrait.layers.causal_conv import History
from portrait.layers.resampling import (
    Downsample,
    TemporalStep,
    Upsample,
    match_channels,
    pixel_shuffle3d,
    pixel_unshuffle3d,
)


def zeroed(step: Downsample | Upsample) -> Downsample | Upsample:
    """The step with a main branch that adds nothing."""
    for parameter in step.parameters():
        torch.nn.init.zeros_(parameter)
    return step


def dc_ae_down(x_BCHW: Tensor, channels: int, factor: int) -> Tensor:
    """DC-AE's 2-D shortcut (arXiv 2410.10733, equation of section 3.1): space to channel, then mean over groups."""
    y = F.pixel_unshuffle(x_BCHW, factor)
    groups = y.shape[1] // channels
    return torch.stack([y[:, g::1][:, : 1 + (channels - 1) * groups : groups] for g in range(groups)]).mean(
        dim=0
    )


def dc_ae_up(x_BCHW: Tensor, channels: int, factor: int) -> Tensor:
    """DC-AE's 2-D shortcut up: repeat channels, then channel to space."""
    copies = channels * factor**2 // x_BCHW.shape[1]
    repeated = torch.stack([x_BCHW] * copies, dim=2).flatten(1, 2)
    return F.pixel_shuffle(repeated, factor)


@pytest.mark.parametrize(("channels", "out"), [(8, 16), (8, 8), (4, 2)])
def test_spatial_shortcut_down_is_dc_ae_on_every_frame(channels: int, out: int) -> None:
    x = torch.randn(2, channels, 3, 8, 6)
    down = zeroed(Downsample(channels, out, space=2, residual=True)) if out % 4 == 0 else None
    got = down(x) if down else match_channels(pixel_unshuffle3d(x, 1, 2), out)
    for frame in range(3):
        torch.testing.assert_close(got[:, :, frame], dc_ae_down(x[:, :, frame], out, 2))


@pytest.mark.parametrize(("channels", "out"), [(16, 8), (8, 8), (16, 4)])
def test_spatial_shortcut_up_is_dc_ae_on_every_frame(channels: int, out: int) -> None:
    x = torch.randn(2, channels, 3, 4, 5)
    got = zeroed(Upsample(channels, out, space=2, residual=True))(x)
    for frame in range(3):
        torch.testing.assert_close(got[:, :, frame], dc_ae_up(x[:, :, frame], out, 2))


def test_temporal_shortcut_down_is_the_mean_of_pairs_after_the_first_frame() -> None:
    x = torch.randn(2, 6, 7, 4, 4)
    got = TemporalStep(zeroed(Downsample(6, 6, time=2, residual=True)))(x)
    torch.testing.assert_close(got[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(got[:, :, 1:], (x[:, :, 1::2] + x[:, :, 2::2]) / 2)


def test_temporal_shortcut_up_repeats_each_step_after_the_first() -> None:
    x = torch.randn(2, 6, 4, 4, 4)
    got = TemporalStep(zeroed(Upsample(6, 6, time=2, residual=True)))(x)
    torch.testing.assert_close(got, torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2))


def test_shuffle_undoes_unshuffle() -> None:
    x = torch.randn(1, 3, 4, 6, 8)
    torch.testing.assert_close(pixel_shuffle3d(pixel_unshuffle3d(x, 2, 2), 2, 2), x)


def test_without_the_shortcut_a_zeroed_step_gives_nothing() -> None:
    x = torch.randn(1, 8, 1, 4, 4)
    assert zeroed(Downsample(8, 8, space=2, residual=False))(x).abs().max() == 0
    assert zeroed(Upsample(8, 8, space=2, residual=False))(x).abs().max() == 0


def test_first_frame_never_enters_the_temporal_step() -> None:
    x = torch.randn(1, 4, 3, 4, 4, requires_grad=True)
    step = TemporalStep(Downsample(4, 4, time=2, residual=True))
    (gradient,) = torch.autograd.grad(step(x)[:, :, 1:].sum(), x)
    assert gradient[:, :, 0].abs().max() == 0
    assert gradient[:, :, 1:].abs().min() > 0
    mid_stream = step(x[:, :, 1:], History(at_start=False))
    torch.testing.assert_close(mid_stream, step(x)[:, :, 1:])


def test_a_shortcut_that_cannot_be_is_refused_when_built() -> None:
    with pytest.raises(ValueError, match="shortcut from 256 to 96"):
        Downsample(64, 96, space=2, residual=True)
    with pytest.raises(ValueError, match="unshuffled"):
        Downsample(8, 6, space=2, residual=True)

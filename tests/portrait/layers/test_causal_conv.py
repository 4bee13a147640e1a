"""Causal convolution against torch's own, and piece by piece against the whole."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from portrait.layers.causal_conv import (
    CausalConv3d,
    ChannelRMSNorm,
    History,
    delta_orthogonal_,
    fold_time,
    unfold_time,
)


def test_equals_a_convolution_of_the_clip_behind_repetitions_of_its_first_frame() -> None:
    x = torch.randn(2, 3, 5, 6, 7)
    layer = CausalConv3d(3, 4, kernel_time=3)
    padded = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)
    expected = F.conv3d(padded, layer.conv.weight, layer.conv.bias, padding=(0, 1, 1))
    torch.testing.assert_close(layer(x), expected)


def test_without_temporal_extent_it_is_a_2d_convolution_of_each_frame() -> None:
    x = torch.randn(2, 3, 5, 6, 7)
    layer = CausalConv3d(3, 4, kernel_time=1)
    for frame in range(5):
        expected = F.conv2d(x[:, :, frame], layer.conv.weight, layer.conv.bias, padding=1)
        torch.testing.assert_close(layer(x)[:, :, frame], expected)


def test_a_still_picture_is_a_video_at_rest() -> None:
    picture = torch.randn(1, 3, 1, 6, 6)
    layer = CausalConv3d(3, 4, kernel_time=3)
    torch.testing.assert_close(
        layer(picture.expand(-1, -1, 4, -1, -1)), layer(picture).expand(-1, -1, 4, -1, -1)
    )


def test_pieces_with_history_equal_the_whole() -> None:
    x = torch.randn(1, 3, 7, 4, 4)
    layer = CausalConv3d(3, 2, kernel_time=3)
    layer.key = "layer"
    history = History()
    pieces = [layer(x[:, :, a:b], history) for a, b in ((0, 1), (1, 2), (2, 6), (6, 7))]
    torch.testing.assert_close(torch.cat(pieces, dim=2), layer(x))


def test_rms_norm_over_channels() -> None:
    x = torch.randn(2, 5, 3, 4, 4)
    norm = ChannelRMSNorm(5)
    torch.nn.init.normal_(norm.weight)
    expected = x / x.square().mean(dim=1, keepdim=True).add(1e-6).sqrt() * norm.weight[:, None, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_folding_time_is_a_view_in_channels_last_memory() -> None:
    x = torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d)
    folded = fold_time(x)
    assert folded.data_ptr() == x.data_ptr()
    torch.testing.assert_close(unfold_time(folded, 2), x)


@pytest.mark.parametrize(("channels_in", "channels_out"), [(6, 6), (4, 12), (12, 4)])
def test_an_orthogonal_start_keeps_lengths_within_a_pixel(channels_in: int, channels_out: int) -> None:
    layer = CausalConv3d(channels_in, channels_out, kernel_time=1)
    delta_orthogonal_(layer, gain=0.5)
    x = torch.randn(2, channels_in, 3, 5, 5)
    y = layer(x)
    if channels_out >= channels_in:
        torch.testing.assert_close(y.norm(dim=1), 0.5 * x.norm(dim=1))
    # a pixel depends on itself alone
    x[:, :, :, 2, 2] = 0
    torch.testing.assert_close(layer(x)[:, :, :, 2, 2], torch.zeros(2, channels_out, 3))
    changed = (layer(x) != y).any(dim=1)
    assert changed[:, :, 2, 2].all()
    assert changed.sum() == 2 * 3

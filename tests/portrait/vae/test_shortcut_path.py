"""With zeroed main branches the auto-encoder is stems, heads and the parameter-free shortcuts between them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from portrait import presets
from portrait.layers.causal_conv import ResidualBlock
from portrait.layers.resampling import Downsample, Upsample
from portrait.vae import Level, VideoVAE


def frames(function, x_BCTHW: Tensor, *arguments: int) -> Tensor:
    """A 2-D operation on every frame."""
    return torch.stack([function(frame, *arguments) for frame in x_BCTHW.unbind(2)], dim=2)


def to_channels(x_BCTHW: Tensor, channels: int) -> Tensor:
    have = x_BCTHW.shape[1]
    if have >= channels:
        return reduce(x_BCTHW, "b (c g) t h w -> b c t h w", "mean", c=channels)
    return repeat(x_BCTHW, "b c t h w -> b (c g) t h w", g=channels // have)


def way_in(x: Tensor, levels: Sequence[Level], out_channels: int) -> Tensor:
    x = to_channels(x, levels[0].width)
    next_widths = [level.width for level in levels[1:]] + [out_channels]
    for level, width in zip(levels, next_widths, strict=True):
        if level.time == 2:
            pairs = reduce(x[:, :, 1:], "b c (t r) h w -> b c t h w", "mean", r=2)
            x = torch.cat([x[:, :, :1], pairs], dim=2)
        x = to_channels(frames(F.pixel_unshuffle, x, level.space), width)
    return x


def way_out(x: Tensor, levels: Sequence[Level], out_channels: int) -> Tensor:
    for level in levels:
        x = frames(F.pixel_shuffle, to_channels(x, level.width * level.space**2), level.space)
        if level.time == 2:
            x = torch.cat([x[:, :, :1], repeat(x[:, :, 1:], "b c t h w -> b c (t r) h w", r=2)], dim=2)
    return to_channels(x, out_channels)


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(presets.load("tiny").vae).eval().requires_grad_(False)
    for module in vae.modules():
        branch: nn.Module | None = None
        if isinstance(module, ResidualBlock):
            branch = module.conv2
        elif isinstance(module, Downsample | Upsample):
            branch = module.conv
        for parameter in branch.parameters() if branch else ():
            nn.init.zeros_(parameter)
    for block in vae.decoder.d_ref.layers:
        for last in (block.self_attention.to_out, block.cross_attention.to_out, block.mlp[2]):  # type: ignore[union-attr,index]
            for parameter in last.parameters():  # type: ignore[union-attr]
                nn.init.zeros_(parameter)
    return vae


def test_the_encoder_is_its_shortcuts(vae: VideoVAE) -> None:
    config = vae.config
    video = torch.rand(2, 3, 9, 64, 64) * 2 - 1
    p = config.patch_size
    stem = vae.encoder.e1.stem.conv
    folded = rearrange(video, "b c t (h ph) (w pw) -> b (c ph pw) t h w", ph=p, pw=p)
    features = way_in(frames(stem, folded), config.encoder1, config.feature_channels)
    inner = way_in(features, config.encoder2, config.encoder2[-1].width)
    moments = frames(vae.encoder.e2.head.conv, inner)
    posterior = vae.encode(video)
    torch.testing.assert_close(posterior.mean, moments[:, :64], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posterior.log_variance, moments[:, 64:], atol=1e-5, rtol=1e-5)


def test_the_decoder_is_its_shortcuts(vae: VideoVAE) -> None:
    config = vae.config
    z = torch.randn(2, 64, 3, 1, 1)
    features = way_out(frames(vae.decoder.d1.stem.conv, z), config.decoder1, config.feature_channels)
    outer = way_out(features, config.decoder2, config.decoder2[-1].width)
    pixels = frames(vae.decoder.d2.head.conv, outer)
    p = config.patch_size
    video = rearrange(pixels, "b (c ph pw) t h w -> b c t (h ph) (w pw)", ph=p, pw=p)
    references = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(vae.decode(z, references), video, atol=1e-5, rtol=1e-5)

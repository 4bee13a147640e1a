"""E1 and E2: video to the mean and log-variance of its latents (paper, "Reference-guided deep video compression").

Shapes: B batch, T+1 frames of H × W pixels, f and F the spatial factors of E1 and of the whole encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from portrait.layers.causal_conv import CausalConv3d, History, ResidualBlock, delta_orthogonal_, name_layers
from portrait.layers.resampling import resample_down, run_steps
from portrait.vae.config import Level, VAEConfig

LOG_VARIANCE_AT_START = -4.0
"""The posterior starts narrow: at the prior's width its noise would drown the mean's little signal."""


class DownLevels(nn.Module):
    """Levels on the way in: each level's residual blocks, then the resampling to the next."""

    def __init__(
        self, levels: Sequence[Level], in_channels: int, out_channels: int, *, residual: bool
    ) -> None:
        super().__init__()
        self.enter = resample_down(in_channels, levels[0].width, time=1, space=1, residual=residual)
        self.blocks = nn.ModuleList()
        self.resample = nn.ModuleList()
        next_widths = [level.width for level in levels[1:]] + [out_channels]
        for level, next_width in zip(levels, next_widths, strict=True):
            self.blocks.append(
                nn.ModuleList(
                    ResidualBlock(level.width, kernel_time=level.kernel_time) for _ in range(level.blocks)
                )
            )
            self.resample.append(
                resample_down(level.width, next_width, time=level.time, space=level.space, residual=residual)
            )

    def forward(self, x_BCTHW: Tensor, history: History | None) -> Tensor:
        x_BCTHW = run_steps(self.enter, x_BCTHW, history)
        for blocks, steps in zip(self.blocks, self.resample, strict=True):
            for block in blocks:  # type: ignore[union-attr]
                x_BCTHW = block(x_BCTHW, history)
            x_BCTHW = run_steps(steps, x_BCTHW, history)  # type: ignore[arg-type]
        return x_BCTHW


class FeatureEncoder(nn.Module):
    """E1: video to mid-level features; run on each reference picture as well."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        width = config.encoder1[0].width
        self.stem = CausalConv3d(config.image_channels * config.patch_size**2, width, kernel_time=1)
        delta_orthogonal_(self.stem, gain=0.5)
        self.levels = DownLevels(
            config.encoder1, width, config.feature_channels, residual=config.residual_resampling
        )

    def forward(self, video_BCTHW: Tensor, history: History | None = None) -> Tensor:
        """[B, 3, 1+T, H, W] in [−1, 1] → [B, C_f, 1+T/4, H/f, W/f]."""
        p = self.patch_size
        x = rearrange(video_BCTHW, "b c t (h ph) (w pw) -> b (c ph pw) t h w", ph=p, pw=p)
        return self.levels(self.stem(x.contiguous(memory_format=torch.channels_last_3d)), history)


class LatentEncoder(nn.Module):
    """E2: features to the posterior's mean and log-variance."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.encoder2[-1].width
        self.levels = DownLevels(
            config.encoder2, config.feature_channels, width, residual=config.residual_resampling
        )
        # No norm before the head: over a pixel's channels it would drop the brightness, which the head must output.
        self.head = CausalConv3d(width, 2 * config.latent_channels, kernel_time=1)
        delta_orthogonal_(self.head, gain=1.0)
        with torch.no_grad():
            self.head.conv.bias[config.latent_channels :] = LOG_VARIANCE_AT_START  # type: ignore[index]

    def forward(self, features_BCTHW: Tensor, history: History | None = None) -> Tensor:
        """[B, C_f, L, H/f, W/f] → [B, 2·C_z, L, H/F, W/F]: mean, then log-variance."""
        return self.head(self.levels(features_BCTHW, history))


class Encoder(nn.Module):
    """E1 then E2."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.e1 = FeatureEncoder(config)
        self.e2 = LatentEncoder(config)
        name_layers(self)

    def forward(self, video_BCTHW: Tensor, history: History | None = None) -> Tensor:
        """[B, 3, 1+T, H, W] in [−1, 1] → [B, 2·C_z, 1+T/4, H/F, W/F]."""
        moments = self.e2(self.e1(video_BCTHW, history), history)
        if history is not None:
            history.at_start = False
        return moments

"""D1, D_ref and D2: latents and references to video (paper, "Reference-guided deep video compression").

Shapes: B batch, L latent steps, M references, f and F the spatial factors of E1 and of the whole encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from portrait.layers.causal_conv import CausalConv3d, History, ResidualBlock, delta_orthogonal_, name_layers
from portrait.layers.resampling import resample_up, run_steps
from portrait.vae.config import Level, VAEConfig
from portrait.vae.fusion import ReferenceFusion


class UpLevels(nn.Module):
    """Levels on the way out: the resampling from the level before, then the level's residual blocks."""

    def __init__(
        self, levels: Sequence[Level], in_channels: int, out_channels: int, *, residual: bool
    ) -> None:
        super().__init__()
        self.resample = nn.ModuleList()
        self.blocks = nn.ModuleList()
        for level in levels:
            self.resample.append(
                resample_up(in_channels, level.width, time=level.time, space=level.space, residual=residual)
            )
            self.blocks.append(
                nn.ModuleList(
                    ResidualBlock(level.width, kernel_time=level.kernel_time) for _ in range(level.blocks)
                )
            )
            in_channels = level.width
        self.leave = resample_up(in_channels, out_channels, time=1, space=1, residual=residual)

    def forward(self, x_BCTHW: Tensor, history: History | None) -> Tensor:
        for steps, blocks in zip(self.resample, self.blocks, strict=True):
            x_BCTHW = run_steps(steps, x_BCTHW, history)  # type: ignore[arg-type]
            for block in blocks:  # type: ignore[union-attr]
                x_BCTHW = block(x_BCTHW, history)
        return run_steps(self.leave, x_BCTHW, history)


class LatentDecoder(nn.Module):
    """D1: latents to features at E1's resolution. Mirrors E2."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.decoder1[0].width
        self.stem = CausalConv3d(config.latent_channels, width, kernel_time=1)
        delta_orthogonal_(self.stem, gain=0.5)
        self.levels = UpLevels(
            config.decoder1, width, config.feature_channels, residual=config.residual_resampling
        )

    def forward(self, z_BCLHW: Tensor, history: History | None) -> Tensor:
        """[B, C_z, L, H/F, W/F] → [B, C_f, L, H/f, W/f]."""
        return self.levels(self.stem(z_BCLHW.contiguous(memory_format=torch.channels_last_3d)), history)


class PictureDecoder(nn.Module):
    """D2: fused features to frames. Mirrors E1."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        width = config.decoder2[-1].width
        self.levels = UpLevels(
            config.decoder2, config.feature_channels, width, residual=config.residual_resampling
        )
        # No norm before the head, as in E2; its gain is low, since the levels before it have amplified the signal.
        self.head = CausalConv3d(width, config.image_channels * config.patch_size**2, kernel_time=1)
        delta_orthogonal_(self.head, gain=0.15)

    def forward(self, features_BCLHW: Tensor, history: History | None) -> Tensor:
        """[B, C_f, L, H/f, W/f] → [B, 3, T, H, W]."""
        x = self.head(self.levels(features_BCLHW, history))
        p = self.patch_size
        return rearrange(x, "b (c ph pw) t h w -> b c t (h ph) (w pw)", ph=p, pw=p)


class Decoder(nn.Module):
    """D1, then D_ref, then D2."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.d1 = LatentDecoder(config)
        self.d_ref = ReferenceFusion(config.fusion)
        self.d2 = PictureDecoder(config)
        name_layers(self)

    def initial_state(self, *, at_start: bool = True) -> History:
        """The state before a stream's first latent.

        Args:
            at_start: False for a decoder that takes over in mid-stream: it replays the last `decoder_reach` latents,
                whose frames are discarded, and continues from there.
        """
        return History(at_start=at_start)

    def forward(
        self,
        z_BCLHW: Tensor,
        reference_features_BMCHW: Tensor,
        reference_mask_BM: Tensor | None = None,
        history: History | None = None,
    ) -> Tensor:
        """Latents [B, C_z, L, H/F, W/F], features of M ≥ 0 references → [B, 3, 1+4(L−1), H, W]; later 4·L frames."""
        fused = self.d_ref(self.d1(z_BCLHW, history), reference_features_BMCHW, reference_mask_BM)
        video = self.d2(fused, history)
        if history is not None:
            history.at_start = False
        return video

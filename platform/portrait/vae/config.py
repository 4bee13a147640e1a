"""Configuration of the reference-guided deep-compression VAE (paper, "Reference-guided deep video compression").

The model is described level by level: a level is a run of residual blocks at one resolution followed by one change of
resolution. All presets share the code; they differ in the numbers below.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod


@dataclass(frozen=True, kw_only=True)
class Level:
    """Residual blocks at one resolution and the resampling between this level and the next deeper one."""

    width: int
    """Channels of the level's residual blocks."""
    blocks: int = 2
    """Number of residual blocks."""
    kernel_time: int = 3
    """Temporal extent of each residual block's first convolution (1 or 3); the second is always 1×3×3."""
    space: int = 1
    """Factor of the spatial resampling (1 or 2) towards the deeper side."""
    time: int = 1
    """Factor of the temporal resampling (1 or 2) towards the deeper side."""


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """D_ref: frame-wise self-attention on D1's features, then cross-attention to the references' E1 features."""

    num_layers: int
    """Transformer layers (paper: 6)."""
    heads: int
    """Attention heads (paper: 16)."""
    head_dim: int
    """Channels of a head (paper: 64), a multiple of 4: half of them turn with the row, half with the column."""
    mlp_ratio: float = 4.0
    """Hidden width of the feed-forward layer over the transformer's width."""
    rope_base: float = 10.0
    """Base of the rotary position embedding, in latent pixels."""

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """E1, E2, D1, D_ref and D2 in numbers."""

    image_channels: int = 3
    """Channels of a picture."""
    patch_size: int = 1
    """Side of the pixel patches that the stem folds into channels (paper: 1)."""
    encoder1: tuple[Level, ...]
    """E1, from the picture inwards."""
    feature_channels: int
    """Channels of E1's output, which are also the references' features (paper: 1024)."""
    encoder2: tuple[Level, ...]
    """E2, from E1's output inwards to the latents."""
    latent_channels: int = 64
    """C_z, channels of the latents."""
    decoder1: tuple[Level, ...]
    """D1, from the latents outwards: mirrors E2."""
    fusion: FusionConfig
    """D_ref, between D1 and D2."""
    decoder2: tuple[Level, ...]
    """D2, outwards to the picture: mirrors E1."""
    residual_resampling: bool = True
    """Causal residual video auto-encoding (CR-VA): parameter-free shortcuts around every change of resolution."""

    def __post_init__(self) -> None:
        for name in ("encoder1", "encoder2", "decoder1", "decoder2"):
            for index, level in enumerate(getattr(self, name)):
                for field, allowed in (("space", (1, 2)), ("time", (1, 2)), ("kernel_time", (1, 3))):
                    value = getattr(level, field)
                    if value not in allowed:
                        raise ValueError(f"vae.{name}[{index}].{field} must be one of {allowed}, got {value}")
        if self.fusion.head_dim % 4:
            raise ValueError(f"vae.fusion.head_dim must be a multiple of 4, got {self.fusion.head_dim}")
        if self.fusion.width != self.feature_channels:
            raise ValueError(
                f"vae.fusion: heads × head_dim must be feature_channels ({self.feature_channels}), "
                f"got {self.fusion.width}"
            )
        for inward, outward in ((self.encoder1, self.decoder2), (self.encoder2, self.decoder1)):
            for axis in ("space", "time"):
                down = prod(getattr(level, axis) for level in inward)
                up = prod(getattr(level, axis) for level in outward)
                if down != up:
                    raise ValueError(
                        f"vae: the decoder must undo the encoder's factor in {axis}: {up} against {down}"
                    )

    @property
    def feature_space_factor(self) -> int:
        """Pixels of the picture to one pixel of E1's features (paper: 16)."""
        return self.patch_size * prod(level.space for level in self.encoder1)

    @property
    def space_factor(self) -> int:
        """Pixels of the picture to one latent pixel (paper: 64)."""
        return self.feature_space_factor * prod(level.space for level in self.encoder2)

    @property
    def time_factor(self) -> int:
        """Frames to one latent step after the first (paper: 4)."""
        return prod(level.time for level in self.encoder1 + self.encoder2)

    @property
    def compression(self) -> float:
        """Values of the video to one value of its latents (paper: 768)."""
        return self.image_channels * self.time_factor * self.space_factor**2 / self.latent_channels

    @property
    def decoder_reach(self) -> int:
        """Latents before its own group of four that a decoded frame may depend on, from the kernels' extents.

        A level's convolutions reach `blocks · (kernel_time − 1)` of its own steps back; the steps of a level after
        temporal upsampling are fractions of a latent's.
        """
        reach, steps_per_latent = 0.0, 1
        for level in self.decoder1 + self.decoder2:
            steps_per_latent *= level.time
            reach += level.blocks * (level.kernel_time - 1) / steps_per_latent
        return ceil(reach)

"""Configuration of the blockwise autoregressive rectified-flow generator and of its sampler.

Paper, "Blockwise autoregressive latent generation".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portrait.timing import LATENTS_PER_BLOCK


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the block-causal rectified-flow transformer."""

    latent_channels: int = 64
    """C_z, channels of the latents."""
    latent_size: int
    """Height and width of a latent, in latent pixels (paper: 8 at 512²)."""
    num_layers: int
    """Transformer layers (paper: 24)."""
    heads: int
    """Attention heads (paper: 12)."""
    head_dim: int
    """Channels per head (paper: 128), split over time, row and column by the rotary embedding."""
    mlp_ratio: float = 4.0
    """Hidden width of the feed-forward layer as a multiple of the transformer's width."""
    window_latents: int = 32
    """Latents in a window, the reach of the KV cache (paper: 32)."""
    speech_dim: int
    """Channels of the per-frame speech features that enter the embedder (the speech encoder's `dim`)."""
    speech_embedding_dim: int
    """Channels of the speech embedding that is concatenated to every latent pixel."""
    rope_base: float = 10_000.0
    """Base of the 3-D rotary position embedding."""

    def __post_init__(self) -> None:
        if self.window_latents % LATENTS_PER_BLOCK:
            raise ValueError(
                f"generator.window_latents must be a multiple of the {LATENTS_PER_BLOCK} latents of a block, "
                f"got {self.window_latents}"
            )

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_dim

    @property
    def window_blocks(self) -> int:
        """Blocks in a window."""
        return self.window_latents // LATENTS_PER_BLOCK

    @property
    def latent_tokens(self) -> int:
        """Tokens per latent, one for each latent pixel."""
        return self.latent_size**2

    @property
    def block_tokens(self) -> int:
        """Tokens per block."""
        return LATENTS_PER_BLOCK * self.latent_tokens


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the flow is integrated at inference."""

    steps: int = 12
    """Euler steps from noise to latents."""
    shift: float = 5.0
    """Timestep shift s: t ↦ s·t / (1 + (s − 1)·t); 1 spaces the steps evenly."""
    audio_guidance: float = 2.0
    """λ_a, classifier-free guidance scale of the speech (paper: 2)."""
    reference_guidance: float = 2.0
    """λ_r, classifier-free guidance scale of the references (paper: 2)."""
    window: Literal["restart", "rolling"] = "restart"
    """What follows a full window: `restart` begins a new window whose context is the last block (paper); `rolling`
    drops the oldest block and keeps the rest, which remembers more at the cost of a full window for every block."""

    def __post_init__(self) -> None:
        if self.window not in ("restart", "rolling"):
            raise ValueError(f"sampling.window must be 'restart' or 'rolling', got {self.window!r}")

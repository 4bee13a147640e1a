"""Layers of the generator: attention with normalised queries and keys and rotary positions, the AdaLN transformer
layer, the timestep embedding and the output layer.

Shapes: B batch, S tokens, K keys, D width = G·E, G heads, E channels per head, N timesteps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from portrait.layers.rotary import apply_rotary


class TimestepEmbedding(nn.Module):
    """Timesteps in [0, 1] to conditioning vectors: sinusoids of 1000·t, then an MLP."""

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep_BN: Tensor) -> Tensor:
        """[B, N] → [B, N, D]."""
        exponents = (
            torch.arange(self.frequencies, device=timestep_BN.device, dtype=torch.float32) / self.frequencies
        )
        angles = 1000.0 * timestep_BN.float()[..., None] * torch.exp(-math.log(10_000.0) * exponents)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


def modulate(x_BSD: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """AdaLN: x·(1 + scale) + shift."""
    return x_BSD * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention whose queries and keys are RMS-normalised, then rotated by their position."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def forward(
        self, x_BSD: Tensor, angles: Tensor, mask: Tensor, cached: Tensor | None = None, start: int = 0
    ) -> Tensor:
        """Attends from x's tokens.

        Args:
            x_BSD: the tokens.
            angles: [S, E/2] or [B, 1, S, E/2], rotary angles of the tokens.
            mask: bool [B, 1, S, K], True where a query may see a key.
            cached: [2, B, G, K, E], keys and values of a KV cache: those of x are written to its slots
                start … start + S, then all K slots are attended to. Without it K = S, the tokens themselves.
            start: first slot of x's tokens in `cached`.

        Returns:
            [B, S, D].
        """
        query_BGSE, key_BGSE, value_BGSE = (
            self.qkv(x_BSD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        query_BGSE = apply_rotary(self.query_norm(query_BGSE), angles)
        key_BGSE = apply_rotary(self.key_norm(key_BGSE), angles)
        if cached is not None:
            slots = slice(start, start + x_BSD.shape[1])
            cached[0, :, :, slots] = key_BGSE
            cached[1, :, :, slots] = value_BGSE
            key_BGSE, value_BGSE = cached[0], cached[1]
        attended = F.scaled_dot_product_attention(query_BGSE, key_BGSE, value_BGSE, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each modulated and gated by its token's timestep (AdaLN-Zero): 12D² + 6D² weights."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(mlp_ratio * width)
        self.modulation = nn.Linear(width, 6 * width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
        )

    def forward(
        self,
        x_BSD: Tensor,
        condition_BND: Tensor,
        *,
        timestep_index: Tensor | None,
        angles: Tensor,
        mask: Tensor,
        cached: Tensor | None = None,
        start: int = 0,
    ) -> Tensor:
        """One layer.

        Args:
            x_BSD: the tokens.
            condition_BND: embeddings of the N timesteps.
            timestep_index: [S], which timestep each token has; None where N is 1.
            angles: see `Attention`, like `mask`, `cached` and `start`.

        Returns:
            [B, S, D].
        """
        modulation = self.modulation(F.silu(condition_BND))
        if timestep_index is not None:
            modulation = modulation[:, timestep_index]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        attended = self.attention(
            modulate(self.attention_norm(x_BSD), shift_a, scale_a), angles, mask, cached, start
        )
        x_BSD = x_BSD + gate_a * attended
        return x_BSD + gate_m * self.mlp(modulate(self.mlp_norm(x_BSD), shift_m, scale_m))


class OutputLayer(nn.Module):
    """Final AdaLN and projection to the latent's channels; zero at the start of training."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.projection = nn.Linear(width, channels)

    def forward(self, x_BSD: Tensor, condition_BND: Tensor, timestep_index: Tensor | None) -> Tensor:
        """[B, S, D] → [B, S, C_z]; arguments as for `TransformerLayer`."""
        modulation = self.modulation(F.silu(condition_BND))
        if timestep_index is not None:
            modulation = modulation[:, timestep_index]
        shift, scale = modulation.chunk(2, dim=-1)
        return self.projection(modulate(self.norm(x_BSD), shift, scale))

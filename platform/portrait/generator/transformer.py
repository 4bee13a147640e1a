"""Layers of the generator: attention with normalised queries and keys and rotary positions, the AdaLN transformer
block, the noise-level embedding and the output layer.

Shapes: `B` batch, `N` tokens, `K` keys, `H` heads, `D` channels of a head, `W` width = H·D, `S` noise levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from portrait.layers.rotary import apply_rotary


class LevelEmbedding(nn.Module):
    """Noise levels in [0, 1] to conditioning vectors: sinusoids of 1000·level, then an MLP."""

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, level: Tensor) -> Tensor:
        """[B, S] → [B, S, W]."""
        exponents = (
            torch.arange(self.frequencies, device=level.device, dtype=torch.float32) / self.frequencies
        )
        angles = 1000.0 * level.float()[..., None] * torch.exp(-math.log(10_000.0) * exponents)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """AdaLN: x·(1 + scale) + shift."""
    return x * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention whose queries and keys are RMS-normalised, then turned by their position."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, angles: Tensor, mask: Tensor, memory: Tensor | None = None, start: int = 0
    ) -> Tensor:
        """Attends from x's tokens.

        Args:
            x: [B, N, W].
            angles: [N, D/2] or [B, 1, N, D/2], rotary angles of the tokens.
            mask: bool, [B, 1, N, K], True where a query may see a key.
            memory: [2, B, H, K, D], keys and values of a cache: those of x are written to it at slots
                start … start + N, then all K slots are attended to. Without it K = N, the tokens themselves.
            start: first slot of x's tokens in `memory`.

        Returns:
            [B, N, W].
        """
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query = apply_rotary(self.query_norm(query), angles)
        key = apply_rotary(self.key_norm(key), angles)
        if memory is not None:
            tokens = slice(start, start + x.shape[1])
            memory[0, :, :, tokens] = key
            memory[1, :, :, tokens] = value
            key, value = memory[0], memory[1]
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(attended.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and feed-forward, each modulated and gated by its token's noise level (AdaLN-Zero): 12W² + 6W²."""

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
        x: Tensor,
        condition: Tensor,
        *,
        level_index: Tensor | None,
        angles: Tensor,
        mask: Tensor,
        memory: Tensor | None = None,
        start: int = 0,
    ) -> Tensor:
        """x: [B, N, W]; condition: [B, S, W] of the S levels; level_index: [N], each token's level, None if S is 1."""
        modulation = self.modulation(F.silu(condition))
        if level_index is not None:
            modulation = modulation[:, level_index]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        attended = self.attention(
            modulate(self.attention_norm(x), shift_a, scale_a), angles, mask, memory, start
        )
        x = x + gate_a * attended
        return x + gate_m * self.mlp(modulate(self.mlp_norm(x), shift_m, scale_m))


class OutputLayer(nn.Module):
    """Final AdaLN and projection to the latent's channels; zero at the start of training."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.projection = nn.Linear(width, channels)

    def forward(self, x: Tensor, condition: Tensor, level_index: Tensor | None) -> Tensor:
        """[B, N, W] → [B, N, C_z]."""
        modulation = self.modulation(F.silu(condition))
        if level_index is not None:
            modulation = modulation[:, level_index]
        shift, scale = modulation.chunk(2, dim=-1)
        return self.projection(modulate(self.norm(x), shift, scale))

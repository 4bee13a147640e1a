"""D_ref: the transformer between D1 and D2 that adds the references' appearance to the decoded features.

Paper, "Reference-guided deep video compression": frame-wise self-attention, then cross-attention to E1's features of
the references. Positions are rows and columns (2-D RoPE); references are not ordered.

Shapes: B batch, L latent steps, M references, N = h·w feature pixels, D width, G heads, E channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from portrait.layers.rotary import apply_rotary, rotary_angles
from portrait.vae.config import FusionConfig


class PlacedAttention(nn.Module):
    """Multi-head attention with rotary positions that initially attends to the same place.

    Queries and keys have a learned constant added to their content. Rotated by the position embedding, two equal
    constants score highest where positions agree, so that from the first step a pixel attends to its own place in a
    reference. Learning where to attend from nothing takes thousands of steps; unlearning this bias is quick.
    """

    def __init__(self, width: int, heads: int, *, same_place: float) -> None:
        super().__init__()
        self.heads, head_dim = heads, width // heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.norm_q = nn.RMSNorm(head_dim, eps=1e-6)
        self.norm_k = nn.RMSNorm(head_dim, eps=1e-6)
        self.place_q = nn.Parameter(torch.full((heads, 1, head_dim), same_place))
        self.place_k = nn.Parameter(torch.full((heads, 1, head_dim), same_place))

    def queries(self, x_BND: Tensor, angles: Tensor) -> Tensor:
        q_BGNE = self.norm_q(self.to_q(x_BND).unflatten(-1, (self.heads, -1))).transpose(1, 2)
        return apply_rotary(q_BGNE + self.place_q, angles)

    def keys(self, context_BND: Tensor, angles: Tensor) -> Tensor:
        k_BGNE = self.norm_k(self.to_k(context_BND).unflatten(-1, (self.heads, -1))).transpose(1, 2)
        return apply_rotary(k_BGNE + self.place_k, angles)

    def values(self, context_BND: Tensor) -> Tensor:
        return self.to_v(context_BND).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q_BGNE: Tensor, k_BGNE: Tensor, v_BGNE: Tensor, mask: Tensor | None = None) -> Tensor:
        out = F.scaled_dot_product_attention(q_BGNE, k_BGNE, v_BGNE, attn_mask=mask)
        return self.to_out(out.transpose(1, 2).flatten(2))


class FusionLayer(nn.Module):
    """Frame-wise self-attention, cross-attention to the references and the learned null token, feed-forward.

    A layer starts as a copy: it adds what the references show at the same place, and nothing else. Values are computed
    from the features without a norm, which would drop the brightness and contrast that a copy needs.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.norm_self = nn.RMSNorm(width, eps=1e-6)
        self.self_attention = PlacedAttention(width, config.heads, same_place=0.0)
        self.norm_cross = nn.RMSNorm(width, eps=1e-6)
        self.norm_reference = nn.RMSNorm(width, eps=1e-6)
        self.cross_attention = PlacedAttention(width, config.heads, same_place=4.5)
        self.null_key = nn.Parameter(torch.zeros(config.heads, 1, config.head_dim))
        self.null_value = nn.Parameter(torch.zeros(config.heads, 1, config.head_dim))
        self.norm_mlp = nn.RMSNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        with torch.no_grad():
            nn.init.eye_(self.cross_attention.to_v.weight)
            self.cross_attention.to_out.weight.copy_(torch.eye(width) / config.num_layers)
            nn.init.zeros_(self.cross_attention.to_out.bias)
            for last in (self.self_attention.to_out, self.mlp[2]):
                last.weight.mul_(0.1)  # type: ignore[operator]
                nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def reference_keys_values(self, references_BMND: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, M·N + 1, E] of the references, the null token last."""
        batch, count = references_BMND.shape[:2]
        context = references_BMND.flatten(1, 2)
        k = self.cross_attention.keys(self.norm_reference(context), angles.repeat(count, 1))
        v = self.cross_attention.values(context)
        null_k, null_v = (null.expand(batch, -1, -1, -1) for null in (self.null_key, self.null_value))
        return torch.cat([k, null_k.to(k.dtype)], dim=2), torch.cat([v, null_v.to(v.dtype)], dim=2)

    def forward(
        self, x_BLND: Tensor, references: tuple[Tensor, Tensor], mask: Tensor | None, angles: Tensor
    ) -> Tensor:
        batch, steps = x_BLND.shape[:2]
        frames = self.norm_self(x_BLND).flatten(0, 1)
        own = self.self_attention
        attended = own.attend(own.queries(frames, angles), own.keys(frames, angles), own.values(frames))
        x_BLND = x_BLND + attended.unflatten(0, (batch, steps))
        # The references are the same at every latent step: one call for all steps of a clip.
        queries = self.cross_attention.queries(self.norm_cross(x_BLND).flatten(1, 2), angles.repeat(steps, 1))
        attended = self.cross_attention.attend(queries, *references, mask)
        x_BLND = x_BLND + attended.unflatten(1, (steps, -1))
        return x_BLND + self.mlp(self.norm_mlp(x_BLND))


class ReferenceFusion(nn.Module):
    """D_ref: D1's features are the transformer's residual stream, so its width is theirs (paper: 16 × 64 = 1024)."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(config.num_layers))
        self.activation_checkpointing = False

    @torch.no_grad()
    def set_same_place(self, value: float) -> None:
        """Sets the constants by which a pixel's query favours its own place in the references.

        A key at the same place scores value² · √E above one far away, before the softmax. In new weights that is more
        than 100: whatever the content, attention looks at one place and has no gradient towards others.
        """
        for layer in self.layers:
            layer.cross_attention.place_q.fill_(value)  # type: ignore[union-attr]
            layer.cross_attention.place_k.fill_(value)  # type: ignore[union-attr]

    def angles(self, height: int, width: int, device: torch.device) -> Tensor:
        """Rotary angles of the feature pixels, row by row: [N, E/2]."""
        rows, columns = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        positions = torch.stack([rows.flatten(), columns.flatten()], dim=-1)
        return rotary_angles(positions, (self.config.head_dim // 2,) * 2, self.config.rope_base)

    def forward(self, features_BCLHW: Tensor, references_BMCHW: Tensor, mask_BM: Tensor | None) -> Tensor:
        """Features [B, C_f, L, h, w], references' features [B, M, C_f, h, w] (M may be 0), mask True where one is."""
        height, width = features_BCLHW.shape[-2:]
        angles = self.angles(height, width, features_BCLHW.device)
        references_BMND = references_BMCHW.flatten(3).transpose(2, 3)
        mask = None
        if mask_BM is not None:
            keys = mask_BM.repeat_interleave(height * width, dim=1)
            mask = F.pad(keys, (0, 1), value=True)[:, None, None, :]
        x_BLND = features_BCLHW.flatten(3).permute(0, 2, 3, 1)
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        for layer in self.layers:
            arguments = (x_BLND, layer.reference_keys_values(references_BMND, angles), mask, angles)  # type: ignore[operator]
            x_BLND = checkpoint(layer, *arguments, use_reentrant=False) if recompute else layer(*arguments)
        return x_BLND.unflatten(2, (height, width)).permute(0, 4, 1, 2, 3)

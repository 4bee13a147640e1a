"""Attention masks of the generator (paper, "Blockwise autoregressive latent generation").

In training the sequence has three groups: the window token and the references; the history, a lightly noised copy of
all blocks; the blocks being denoised. References see only references, so that their keys can be computed once for a
whole stream; the window token sees itself and the references. Block b of the history sees the first group and history
blocks ≤ b; block b being denoised sees the first group, history blocks < b and itself.

Rows of a mask are queries, columns keys. Shapes: `B` batch, `S` tokens, `K` slots of a KV cache.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from portrait.generator.kv_cache import WINDOW_TOKENS, KVCache


@lru_cache(maxsize=8)
def teacher_forcing_mask(
    reference_tokens: int, blocks: int, block_tokens: int, device: torch.device
) -> Tensor:
    """Bool [S, S], S = 1 + reference_tokens + 2·blocks·block_tokens; one object per shape."""
    prefix = 1 + reference_tokens
    group = torch.cat(
        (
            torch.zeros(prefix, dtype=torch.long),
            torch.ones(blocks * block_tokens, dtype=torch.long),
            torch.full((blocks * block_tokens,), 2),
        )
    )
    block = torch.arange(blocks).repeat_interleave(block_tokens)
    block = torch.cat((torch.full((prefix,), -1), block, block))
    query_group, key_group = group[:, None], group[None, :]
    query_block, key_block = block[:, None], block[None, :]
    mask = (query_group == 0) & (key_group == 0)
    mask[1:prefix, 0] = False
    mask |= (query_group > 0) & (key_group == 0)
    mask |= (query_group == 1) & (key_group == 1) & (key_block <= query_block)
    mask |= (query_group == 2) & (key_group == 1) & (key_block < query_block)
    mask |= (query_group == 2) & (key_group == 2) & (key_block == query_block)
    return mask.to(device)


def with_absent_keys(mask: Tensor, present: Tensor) -> Tensor:
    """Hides absent tokens (masked references, padding) from all tokens but themselves.

    Args:
        mask: bool [S, S].
        present: bool [B, S].

    Returns:
        bool [B, 1, S, S]; every row has at least one True, since a token always sees itself.
    """
    itself = torch.eye(mask.shape[0], dtype=torch.bool, device=mask.device)
    return ((mask & present[:, None, :]) | itself)[:, None]


def reference_mask_of(cache: KVCache, reference_tokens: int) -> Tensor:
    """Bool [B, 1, S, K] for the pass that fills a cache's prefix with S = 2 + `reference_tokens` tokens.

    Tokens see the references that are present (`cache.prefix_present`) and themselves.
    """
    used = WINDOW_TOKENS + reference_tokens
    device = cache.prefix_present.device
    seen = torch.zeros(cache.rows, cache.capacity, dtype=torch.bool, device=device)
    seen[:, WINDOW_TOKENS:used] = cache.prefix_present[:, WINDOW_TOKENS:used]
    itself = torch.eye(used, cache.capacity, dtype=torch.bool, device=device)
    return (seen[:, None] | itself)[:, None]


def history_mask_of(cache: KVCache, blocks: int) -> Tensor:
    """Bool [B, 1, S, K] for the pass that fills a cache's history with `blocks` blocks: causal from block to block."""
    device = cache.prefix_present.device
    block = torch.arange(blocks, device=device).repeat_interleave(cache.block_tokens)
    mask = torch.zeros(cache.rows, len(block), cache.capacity, dtype=torch.bool, device=device)
    mask[:, :, : cache.prefix] = cache.prefix_present[:, None]
    mask[:, :, cache.prefix : cache.prefix + len(block)] = block[:, None] >= block[None, :]
    return mask[:, None]

"""Who may see whom: the block-causal attention mask of teacher forcing in one pass (paper, "Blockwise autoregressive
latent generation").

The sequence has three groups: the window token and the references; the history, a copy of all blocks, lightly noised;
the blocks being denoised. A reference sees references, so that its keys can be computed once for a whole stream; the
window token sees itself and them. Block b of the history sees the first group and history blocks ≤ b; block b being
denoised sees the first group, history blocks < b and itself.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def teacher_forcing_mask(
    reference_tokens: int, blocks: int, block_tokens: int, device: torch.device
) -> Tensor:
    """Bool [N, N], rows are queries, N = 1 + reference_tokens + 2·blocks·block_tokens; one object per shape."""
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
    """Hides absent tokens (masked references, padding) from everyone but themselves.

    Args:
        mask: bool [N, N], rows are queries.
        present: bool [B, N].

    Returns:
        bool [B, 1, N, N]; every row has at least one True, since a token always sees itself.
    """
    itself = torch.eye(mask.shape[0], dtype=torch.bool, device=mask.device)
    return ((mask & present[:, None, :]) | itself)[:, None]

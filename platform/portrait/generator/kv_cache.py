"""The KV cache of a window, preallocated and static in shape.

Slots of a row: [first-window token, later-window token, references | history, up to window_blocks − 1 blocks | current
block]. The current block's keys and values are always in the last slots, whatever the row's length, so that sessions of
different lengths run in one batch; slots that a row has not filled are hidden by its mask. Keys are stored already
rotated by their position in the window, so a slot's index carries no meaning.

Shapes: `R` rows (sessions × guidance passes), `G` heads, `S` slots, `E` channels per head, `P` prefix slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from portrait.generator.config import GeneratorConfig
from portrait.layers.rotary import apply_rotary

WINDOW_TOKENS = 2
"""Slots of the two window tokens; a row sees one of them."""


@dataclass(kw_only=True)
class KVCache:
    """Keys and values of the references, the window's finished blocks and the current block."""

    keys_values: Tensor
    """[layers, 2, R, G, S, E]."""
    prefix_present: Tensor
    """Bool [R, P], which of the window tokens and reference tokens a row sees."""
    lengths: Tensor
    """Int64 [R], finished blocks in the row's window, 0 … window_blocks − 1."""
    block_tokens: int
    """Tokens per block."""

    @classmethod
    def allocate(
        cls,
        config: GeneratorConfig,
        rows: int,
        references: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> KVCache:
        """An empty cache of `rows` rows with room for `references` ≥ 1 references each."""
        prefix = WINDOW_TOKENS + references * config.latent_tokens
        slots = prefix + config.window_blocks * config.block_tokens
        shape = (config.num_layers, 2, rows, config.heads, slots, config.head_dim)
        return cls(
            keys_values=torch.zeros(shape, device=device, dtype=dtype),
            prefix_present=torch.zeros(rows, prefix, dtype=torch.bool, device=device),
            lengths=torch.zeros(rows, dtype=torch.long, device=device),
            block_tokens=config.block_tokens,
        )

    @property
    def rows(self) -> int:
        """R, sessions × guidance passes."""
        return self.lengths.shape[0]

    @property
    def prefix(self) -> int:
        """P, slots before the history."""
        return self.prefix_present.shape[1]

    @property
    def capacity(self) -> int:
        """S, all slots."""
        return self.keys_values.shape[4]

    @property
    def current(self) -> int:
        """First slot of the current block."""
        return self.capacity - self.block_tokens

    @property
    def room(self) -> int:
        """Finished blocks that the cache can hold."""
        return (self.current - self.prefix) // self.block_tokens

    def present(self) -> Tensor:
        """Bool [R, S]: the slots that a row's current block sees."""
        slots = torch.arange(self.current - self.prefix, device=self.lengths.device)
        history_RS = slots[None, :] < self.block_tokens * self.lengths[:, None]
        block_RS = torch.ones(self.rows, self.block_tokens, dtype=torch.bool, device=self.lengths.device)
        return torch.cat((self.prefix_present, history_RS, block_RS), dim=1)

    def begin_window(self, *, first: Tensor | bool) -> None:
        """Clears the history of all rows and shows each the token of a first or a later window.

        Args:
            first: bool, or bool [R], whether the window is the first of its clip or stream.
        """
        self.lengths.zero_()
        is_first = torch.as_tensor(first, device=self.prefix_present.device)
        self.prefix_present[:, 0] = is_first
        self.prefix_present[:, 1] = ~is_first

    def append(self) -> None:
        """Copies the current block to the end of every row's history.

        Raises:
            ValueError: a row's window is full.
        """
        if bool((self.lengths >= self.room).any()):
            raise ValueError(
                f"the KV cache is full: it holds {self.room} finished blocks; begin the next window first"
            )
        start_R = self.prefix + self.block_tokens * self.lengths
        slots_RS = start_R[:, None] + torch.arange(self.block_tokens, device=start_R.device)
        index = slots_RS[None, None, :, None, :, None].expand(
            *self.keys_values.shape[:4], -1, self.keys_values.shape[5]
        )
        self.keys_values.scatter_(4, index, self.keys_values[..., self.current :, :].clone())
        self.lengths += 1

    def drop_oldest(self, angles: Tensor) -> None:
        """Removes the first block of every row's history; the rest moves to the window's beginning.

        Args:
            angles: [1, E/2], the rotation that moves a key back by one block.

        Raises:
            ValueError: a row has no history.
        """
        if bool((self.lengths < 1).any()):
            raise ValueError("the KV cache has no finished block to drop")
        start = self.prefix + self.block_tokens
        later = self.keys_values[..., start : self.current, :].clone()
        later[:, 0] = apply_rotary(later[:, 0], angles)
        self.keys_values[..., self.prefix : self.current - self.block_tokens, :] = later
        self.lengths -= 1
        self.prefix_present[:, 0] = False
        self.prefix_present[:, 1] = True

    @classmethod
    def concatenate(cls, caches: Sequence[KVCache]) -> KVCache:
        """The rows of several caches of one shape as one batch; a single cache is returned as it is, not copied."""
        if len(caches) == 1:
            return caches[0]
        return cls(
            keys_values=torch.cat([cache.keys_values for cache in caches], dim=2),
            prefix_present=torch.cat([cache.prefix_present for cache in caches]),
            lengths=torch.cat([cache.lengths for cache in caches]),
            block_tokens=caches[0].block_tokens,
        )

    def copy_to(self, caches: Sequence[KVCache]) -> None:
        """Copies the rows back to the caches that `concatenate` joined."""
        first = 0
        for cache in caches:
            if cache is self:
                return
            rows = slice(first, first + cache.rows)
            cache.keys_values.copy_(self.keys_values[:, :, rows])
            cache.prefix_present.copy_(self.prefix_present[rows])
            cache.lengths.copy_(self.lengths[rows])
            first = rows.stop

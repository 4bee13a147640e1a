"""The sampler: Euler steps from noise to the next block of latents, all guidance passes in one batch.

Shapes: `S` sessions, `P` guidance passes, `R` = S·P rows of the cache (a session's passes side by side), `C` = C_z,
`k` latents of a block, `E` speech embedding channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from portrait.generator.cache import KeyValueCache
from portrait.generator.config import GeneratorConfig, SamplingConfig
from portrait.generator.guidance import Guidance
from portrait.generator.model import Generator
from portrait.generator.schedule import sampling_levels
from portrait.timing import LATENTS_PER_BLOCK


def euler(velocity: Callable[[Tensor, float], Tensor], start: Tensor, levels: Tensor) -> Tensor:
    """Integrates dz/dt = velocity(z, t) along `levels`; the error falls with the first power of the step.

    Args:
        velocity: z and t to dz/dt.
        start: z at levels[0].
        levels: [steps + 1], t in order.

    Returns:
        z at levels[-1].
    """
    z = start
    for now, then in pairwise(float(level) for level in levels):
        z = z + (then - now) * velocity(z, now)
    return z


def block_noise(config: GeneratorConfig, seed: int, block: int) -> Tensor:
    """The noise that block `block` of a session starts from: a function of (seed, block) alone, drawn on the CPU.

    Returns:
        float32 [C, k, h, w].
    """
    digest = hashlib.blake2b(f"{seed}/{block}".encode(), digest_size=8).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    size = config.latent_size
    return torch.randn(config.latent_channels, LATENTS_PER_BLOCK, size, size, generator=rng)


class BlockSampler:
    """Samples blocks for batches of sessions, whose history a cache holds."""

    def __init__(
        self,
        generator: Generator,
        sampling: SamplingConfig,
        guidance: Guidance | None = None,
        *,
        start: float = 1.0,
    ) -> None:
        """A sampler of a generator.

        Args:
            generator: whose velocity is integrated.
            sampling: steps, shift, guidance scales.
            guidance: the fewest passes for the sampling's scales, if not given.
            start: noise level of what `sample` is given, in (0, 1]: below 1 it finishes blocks that are only partly
                noise, in as many steps.
        """
        self.generator = generator
        self.guidance = guidance or Guidance.of(sampling)
        self.levels = start * sampling_levels(sampling.steps, sampling.shift)

    def allocate(self, sessions: int, references: int) -> KeyValueCache:
        """An empty cache for that many sessions with room for that many references each, beside the weights."""
        device, rows = self.generator.latent_in.weight.device, sessions * self.guidance.passes
        return KeyValueCache.allocate(
            self.generator.config, rows, references, device=device, dtype=self.generator.dtype
        )

    @torch.no_grad()
    def write_references(self, cache: KeyValueCache, references: Tensor, mask: Tensor | None = None) -> None:
        """Writes sessions' references [S, M, C, h, w], normalised; mask [S, M] bool says which are there."""
        drop = torch.tensor(self.guidance.drop_references, device=references.device).repeat(len(references))
        rows_mask = None if mask is None else self._rows(mask)
        self.generator.write_references(cache, self._rows(references), rows_mask, drop)

    @torch.no_grad()
    def write_history(self, cache: KeyValueCache, latents: Tensor, embedding: Tensor) -> None:
        """Replaces sessions' history by finished latents [S, C, n·k, h, w], embeddings [S, n·k, E], in one pass."""
        self.generator.write_history(cache, self._rows(latents), self._spread_speech(embedding))

    @torch.no_grad()
    def sample(self, cache: KeyValueCache, noise: Tensor, embedding: Tensor) -> Tensor:
        """The next block of every session.

        Args:
            cache: references and history; of it only the slots of the current block change.
            noise: [S, C, k, h, w], the block at the level where the sampler starts: noise alone at 1.
            embedding: [S, k, E], the block's speech.

        Returns:
            [S, C, k, h, w], normalised latents in float32.
        """
        speech = self._spread_speech(embedding)

        def velocity(z: Tensor, t: float) -> Tensor:
            level = torch.full((cache.rows,), t, device=z.device)
            return self.guidance.combine(self.generator.denoise(cache, self._rows(z), level, speech).float())

        return euler(velocity, noise.float(), self.levels)

    @torch.no_grad()
    def append(self, cache: KeyValueCache, latents: Tensor, embedding: Tensor) -> None:
        """Appends sessions' finished blocks [S, C, k, h, w] to their history."""
        self.generator.write_block(cache, self._rows(latents), self._spread_speech(embedding))

    def begin_window(self, cache: KeyValueCache, first: Tensor) -> None:
        """Forgets all sessions' history; `first` [S] bool says whose window is the first of its clip or stream."""
        cache.begin_window(first=self._rows(first))

    def _rows(self, sessions: Tensor) -> Tensor:
        """[S, …] → [S·P, …], every session's value for all its passes."""
        return sessions.repeat_interleave(self.guidance.passes, dim=0)

    def _spread_speech(self, embedding: Tensor) -> Tensor:
        """[S, L, E] → [S·P, L, E], null where a pass drops the speech."""
        drop = torch.tensor(self.guidance.drop_speech, device=embedding.device)
        null = self.generator.null_speech.to(embedding.dtype)
        return torch.where(drop[None, :, None, None], null, embedding[:, None]).flatten(0, 1)

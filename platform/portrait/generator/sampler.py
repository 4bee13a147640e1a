"""The sampler: Euler steps from noise to the next block of latents, all guidance passes in one batch.

Shapes: B sessions, P guidance passes, R = B·P rows of the KV cache (a session's passes side by side), C = C_z, k
latents of a block, H W latent pixels, L latents, E speech embedding channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from portrait.generator.config import GeneratorConfig, SamplingConfig
from portrait.generator.guidance import Guidance
from portrait.generator.kv_cache import KVCache
from portrait.generator.model import Generator
from portrait.generator.timesteps import sampling_timesteps
from portrait.timing import LATENTS_PER_BLOCK


def euler(velocity: Callable[[Tensor, float], Tensor], start: Tensor, timesteps: Tensor) -> Tensor:
    """Integrates dz/dt = velocity(z, t) along `timesteps`; the error falls with the first power of the step.

    Args:
        velocity: z and t to dz/dt.
        start: z at timesteps[0].
        timesteps: [steps + 1], t in order.

    Returns:
        z at timesteps[-1].
    """
    z = start
    for now, then in pairwise(float(timestep) for timestep in timesteps):
        z = z + (then - now) * velocity(z, now)
    return z


def block_noise(config: GeneratorConfig, seed: int, block: int) -> Tensor:
    """The noise that a session's block starts from: a function of (seed, block) alone, drawn on the CPU.

    Returns:
        float32 [C, k, H, W].
    """
    digest = hashlib.blake2b(f"{seed}/{block}".encode(), digest_size=8).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    size = config.latent_size
    return torch.randn(config.latent_channels, LATENTS_PER_BLOCK, size, size, generator=rng)


class BlockSampler:
    """Samples blocks for batches of sessions whose history a KV cache holds."""

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
            guidance: the passes; by default the fewest that the sampling's scales need.
            start: timestep of what `sample` is given, in (0, 1]: below 1 it finishes blocks that are only partly
                noise, in as many steps.
        """
        self.generator = generator
        self.guidance = guidance or Guidance.of(sampling)
        self.timesteps = start * sampling_timesteps(sampling.steps, sampling.shift)

    def allocate(self, sessions: int, references: int) -> KVCache:
        """An empty cache for that many sessions with room for that many references each, on the model's device."""
        return KVCache.allocate(
            self.generator.config,
            sessions * self.guidance.passes,
            references,
            device=self.generator.device,
            dtype=self.generator.dtype,
        )

    @torch.no_grad()
    def prefill_references(self, cache: KVCache, references: Tensor, mask: Tensor | None = None) -> None:
        """Fills the cache with the sessions' references.

        Args:
            cache: of these sessions.
            references: [B, M, C, H, W], latents of the VAE.
            mask: bool [B, M], True where there is a reference; all by default.
        """
        drop = torch.tensor(self.guidance.drop_references, device=references.device).repeat(len(references))
        rows_mask = None if mask is None else self._rows(mask)
        self.generator.prefill_references(cache, self._rows(references), rows_mask, drop)

    @torch.no_grad()
    def prefill(self, cache: KVCache, latents: Tensor, embedding: Tensor) -> None:
        """Replaces the sessions' history by finished latents [B, C, n·k, H, W], embeddings [B, n·k, E], in one pass."""
        self.generator.prefill(cache, self._rows(latents), self._spread_speech(embedding))

    @torch.no_grad()
    def sample(self, cache: KVCache, noise: Tensor, embedding: Tensor) -> Tensor:
        """The next block of every session.

        Args:
            cache: references and history; only the slots of the current block change.
            noise: [B, C, k, H, W], the block at the timestep where the sampler starts: pure noise at 1.
            embedding: [B, k, E], the block's speech.

        Returns:
            [B, C, k, H, W], normalised latents in float32.
        """
        speech = self._spread_speech(embedding)

        def velocity(z_BCLHW: Tensor, t: float) -> Tensor:
            timestep_R = torch.full((cache.rows,), t, device=z_BCLHW.device)
            passes = self.generator.denoise(cache, self._rows(z_BCLHW), timestep_R, speech)
            return self.guidance.combine(passes.float())

        return euler(velocity, noise.float(), self.timesteps)

    @torch.no_grad()
    def append(self, cache: KVCache, latents: Tensor, embedding: Tensor) -> None:
        """Appends the sessions' finished blocks [B, C, k, H, W] to their history."""
        self.generator.append(cache, self._rows(latents), self._spread_speech(embedding))

    def begin_window(self, cache: KVCache, first: Tensor) -> None:
        """Clears the sessions' history; `first` bool [B]: whose window is the first of its clip or stream."""
        cache.begin_window(first=self._rows(first))

    def _rows(self, sessions: Tensor) -> Tensor:
        """[B, …] → [R, …], every session's value for all its passes."""
        return sessions.repeat_interleave(self.guidance.passes, dim=0)

    def _spread_speech(self, embedding_BLE: Tensor) -> Tensor:
        """[B, L, E] → [R, L, E], null where a pass drops the speech."""
        drop_P = torch.tensor(self.guidance.drop_speech, device=embedding_BLE.device)
        null = self.generator.null_speech.to(embedding_BLE.dtype)
        return torch.where(drop_P[None, :, None, None], null, embedding_BLE[:, None]).flatten(0, 1)

"""Self-rollout: a window's history made by the model itself, so that training meets the errors that sampling makes.

Teacher forcing shows the model only true history; in a stream it sees its own, and the errors add up to drift. Here
every true block is noised to a timestep and the model denoises it, one block after another with its own earlier blocks
as history, guided and sampled as in a stream. The result still belongs to the true video, so the true next block
remains the right target: the model learns to correct its errors instead of passing them on. No teacher model is needed
(self-resampling: Guo et al. 2025, arXiv 2512.15702).

Shapes: B batch, L latents of a window, C = C_z, H W latent pixels, k latents of a block, E speech embedding channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from portrait.generator.config import SamplingConfig
from portrait.generator.flow import interpolate
from portrait.generator.model import Generator
from portrait.generator.sampler import BlockSampler
from portrait.generator.teacher_forcing import clean_latents, draw_noise
from portrait.timing import LATENTS_PER_BLOCK


@dataclass(frozen=True, kw_only=True)
class SelfRollout:
    """How the history of a training step is made."""

    sampling: SamplingConfig
    """Steps, shift and guidance; few steps are enough, since the blocks are only partly noise."""
    timestep: float
    """Timestep in (0, 1] from which the model denoises every block: at 1 nothing of the true one is left."""


@torch.no_grad()
def self_rollout(
    generator: Generator, batch: Mapping[str, Tensor], rollout: SelfRollout, rng: torch.Generator
) -> Tensor:
    """The window's latents as the model itself would have made them, except the last block, which is never history.

    Args:
        generator: its current weights; no gradient flows.
        batch: see `teacher_forcing`.
        rollout: timestep and sampling.
        rng: on the CPU; the noise comes from it.

    Returns:
        [B, C, L, H, W], normalised, float32.
    """
    clean = clean_latents(generator, batch)
    is_first, references = batch["is_first"].bool(), batch["reference_latents"]
    sampler = BlockSampler(generator, rollout.sampling, start=rollout.timestep)
    cache = sampler.allocate(len(clean), references.shape[1])
    sampler.prefill_references(cache, references, batch.get("reference_mask"))
    sampler.begin_window(cache, is_first)

    embedding_BLE = generator.embed_speech(batch["speech"], is_first).float()
    speech = embedding_BLE.split(LATENTS_PER_BLOCK, dim=1)
    noised = interpolate(clean, draw_noise(clean, rng), rollout.timestep)
    *blocks, _ = noised.split(LATENTS_PER_BLOCK, dim=2)
    made: list[Tensor] = []
    for number, block in enumerate(blocks):
        if number:
            sampler.append(cache, made[-1], speech[number - 1])
        made.append(sampler.sample(cache, block, speech[number]))
    return torch.cat([*made, clean[:, :, -LATENTS_PER_BLOCK:]], dim=2)

"""Self-rollout: a window's history made by the model itself, so that training meets the errors that sampling makes.

Teacher forcing shows the model true history alone; in a stream it sees its own, and its errors add up to drift. Here
every block is noised to a level, and the model brings it back, one block after another with its own earlier blocks as
history, guided and sampled as in a stream. What comes of it still belongs to the true video, so the true next block
stays the right answer: the model learns to mend its errors instead of passing them on. No teacher model is needed
(self-resampling: Guo et al. 2025, arXiv 2512.15702).

Shapes: `B` batch, `M` references, `L` latents of a window, `C` = C_z, `k` latents of a block, `T` frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from portrait.generator.config import SamplingConfig
from portrait.generator.model import Generator
from portrait.generator.sampler import BlockSampler
from portrait.timing import LATENTS_PER_BLOCK


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a step's history is made."""

    sampling: SamplingConfig
    """Steps, shift and guidance; few steps do, since the blocks are noised only in part."""
    level: float
    """Noise level in (0, 1] from which the model brings every block back: at 1 nothing of the true one is left."""


@torch.no_grad()
def rolled_out(
    generator: Generator, batch: Mapping[str, Tensor], rollout: Rollout, rng: torch.Generator
) -> Tensor:
    """The window's latents as the model itself would have left them, but for the last block, which is nobody's history.

    Args:
        generator: its weights as they are; no gradient flows.
        batch: as `flow_matching_loss` takes it: "latents" [B, C, L, h, w] normalised, "speech", "reference_latents",
            "is_first" and, where there is one, "reference_mask".
        rollout: level and sampling.
        rng: on the CPU; the noise comes from it.

    Returns:
        [B, C, L, h, w], normalised, float32.
    """
    clean = batch["latents"].float()
    k, device = LATENTS_PER_BLOCK, clean.device
    sampler = BlockSampler(generator, rollout.sampling, start=rollout.level)
    is_first, references = batch["is_first"].bool(), batch["reference_latents"]
    cache = sampler.allocate(len(clean), references.shape[1])
    sampler.write_references(cache, references, batch.get("reference_mask"))
    sampler.begin_window(cache, is_first)
    embedding = generator.embed_speech(batch["speech"], is_first).float()
    noise = torch.randn(clean.shape, generator=rng).to(device)
    start = (1 - rollout.level) * clean + rollout.level * noise
    *blocks, _ = start.split(k, dim=2)
    speech = embedding.split(k, dim=1)
    made: list[Tensor] = []
    for number, block in enumerate(blocks):
        if number:
            sampler.append(cache, made[-1], speech[number - 1])
        made.append(sampler.sample(cache, block, speech[number]))
    return torch.cat([*made, clean[:, :, -k:]], dim=2)

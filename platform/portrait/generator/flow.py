"""Rectified flow: the straight path z^t = (1 − t)·z⁰ + t·ε with velocity ε − z⁰, and the loss of teacher forcing
(paper, "Blockwise autoregressive latent generation").

Shapes: `B` batch, `M` references, `L` latents of a window, `C` = C_z, `n` blocks, `T` frames, `F` speech features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from portrait.generator.rollout import Rollout, rolled_out
from portrait.generator.schedule import training_levels
from portrait.timing import LATENTS_PER_BLOCK

if TYPE_CHECKING:
    from portrait.presets.training import GeneratorTrainingConfig


def interpolate(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """z^t = (1 − t)·z⁰ + t·ε; `level` is broadcast."""
    return (1 - level) * clean + level * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """The path's derivative by t, ε − z⁰."""
    return noise - clean


def random_reference_mask(mask: Tensor, rng: torch.Generator) -> Tensor:
    """Keeps at random 1 … all of each row's references.

    Args:
        mask: [B, M] bool, the references that are there.
        rng: on the CPU.

    Returns:
        [B, M] bool, a subset of `mask`, not empty where `mask` is not.
    """
    available = mask.sum(dim=1)
    kept = 1 + (torch.rand(mask.shape[0], generator=rng).to(mask.device) * available).long()
    scores = torch.rand(mask.shape, generator=rng).to(mask.device).masked_fill(~mask, 2.0)
    rank = scores.argsort(dim=1).argsort(dim=1)
    return mask & (rank < kept[:, None])


def available_references(batch: Mapping[str, Tensor]) -> Tensor:
    """Bool [B, M], which of a batch's references are there."""
    if "reference_mask" in batch:
        return batch["reference_mask"].bool()
    references = batch["reference_latents"]
    return torch.ones(references.shape[:2], dtype=torch.bool, device=references.device)


def learnt_latents(batch: Mapping[str, Tensor], *, context: int) -> Tensor:
    """Float [B, L], 1 for the latents that a loss counts: no padding, and none of the first `context` latents of a
    window that begins in mid-clip.
    """
    rows, latents = batch["latents"].shape[0], batch["latents"].shape[2]
    counts = torch.ones(rows, latents, device=batch["latents"].device)
    if "latent_mask" in batch:
        counts = counts * batch["latent_mask"]
    counts[:, :context] *= batch["is_first"].bool()[:, None]
    return counts


def flow_matching_loss(
    generator: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    config: GeneratorTrainingConfig,
    rng: torch.Generator,
    rollout: Rollout | None = None,
    learn_context: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The conditional flow-matching loss ‖G(z^t, z_r, a′, t) − (ε − z⁰)‖², averaged over what is to be learnt.

    Padding does not count, nor does the first block of a window that begins in mid-clip: at inference it is context.

    Args:
        generator: a `Generator`, or a wrapper with it as `.module` (DeepSpeed's engine).
        batch: "latents" [B, C, L, h, w] normalised; "speech" [B, T, F]; "reference_latents" [B, M, C, h, w]
            normalised; "is_first" [B] bool; and, where not all is there, "latent_mask" [B, L] bool and
            "reference_mask" [B, M] bool.
        config: dropouts, the history's noise, the shift of the noise levels.
        rng: on the CPU; all draws come from it.
        rollout: makes the history by the model itself, at level 0, instead of noising the true one.
        learn_context: whether the first block of such a window counts as well: rollouts begin with it.

    Returns:
        The loss (float32 scalar), and detached metrics: "flow_loss", and "flow_loss_low" / "flow_loss_high", the loss
        of blocks below and above t = 0.5 (absent where there are none).
    """
    clean = batch["latents"].float()
    device, (rows, _, latents) = clean.device, clean.shape[:3]
    blocks = latents // LATENTS_PER_BLOCK
    available = available_references(batch)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng).to(device)

    def noise() -> Tensor:
        return torch.randn(clean.shape, generator=rng).to(device)

    def per_latent(level: Tensor) -> Tensor:
        return level.repeat_interleave(LATENTS_PER_BLOCK, dim=1)[:, None, :, None, None]

    level = training_levels((rows, blocks), config.timestep_shift, rng).to(device)
    # One level for a whole window, as at inference, where all of the history is at level 0.
    history_level = (draw(rows, 1) * config.history_noise_max).expand(-1, blocks)
    if rollout is None:
        history = interpolate(clean, noise(), per_latent(history_level))
    else:
        history_level = torch.zeros_like(history_level)
        history = rolled_out(getattr(generator, "module", generator), batch, rollout, rng)  # type: ignore[arg-type]
    target_noise = noise()
    predicted = generator(
        history,
        interpolate(clean, target_noise, per_latent(level)),
        history_level=history_level,
        level=level,
        references=batch["reference_latents"],
        speech=batch["speech"],
        is_first=batch["is_first"].bool(),
        reference_mask=random_reference_mask(available, rng),
        latent_mask=batch["latent_mask"].bool() if "latent_mask" in batch else None,
        drop_speech=draw(rows) < config.audio_dropout,
        drop_references=(draw(rows) < config.reference_dropout) | ~available.any(dim=1),
    )
    error = (predicted.float() - velocity(clean, target_noise)).square().mean(dim=(1, 3, 4))
    counts = learnt_latents(batch, context=0 if learn_context else LATENTS_PER_BLOCK)

    loss = (error * counts).sum() / counts.sum().clamp(min=1)
    metrics = {"flow_loss": loss.detach()}
    low = level.repeat_interleave(LATENTS_PER_BLOCK, dim=1) < 0.5
    for name, chosen in (("flow_loss_low", counts * low), ("flow_loss_high", counts * ~low)):
        if chosen.sum() > 0:
            metrics[name] = ((error * chosen).sum() / chosen.sum()).detach()
    return loss, metrics

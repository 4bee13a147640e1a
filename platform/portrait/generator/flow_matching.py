"""The conditional flow-matching loss of a window (paper, "Blockwise autoregressive latent generation"; Lipman et al.
2022, arXiv 2210.02747).

Shapes: B batch, L latents of a window, N blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from portrait.generator.flow import interpolate, per_latent, velocity
from portrait.generator.model import Generator
from portrait.generator.self_rollout import SelfRollout, self_rollout
from portrait.generator.teacher_forcing import (
    available_references,
    clean_latents,
    draw_conditions,
    draw_history_timestep,
    draw_noise,
    loss_mask,
    masked_mean,
    noised_history,
    squared_error,
)
from portrait.generator.timesteps import training_timesteps
from portrait.timing import LATENTS_PER_BLOCK

if TYPE_CHECKING:
    from portrait.presets import GeneratorTrainingConfig


def flow_matching_loss(
    generator: Generator,
    batch: Mapping[str, Tensor],
    *,
    config: GeneratorTrainingConfig,
    rng: torch.Generator,
    rollout: SelfRollout | None = None,
    learn_context: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """‖G(z^t, z_r, a′, t) − (ε − z⁰)‖², averaged over the latents that count.

    Padding does not count, nor does the first block of a window in mid-clip, which is context at inference.

    Args:
        generator: the model.
        batch: see `teacher_forcing`.
        config: dropouts, the history's noise, the shift of the timesteps.
        rng: on the CPU; all draws come from it.
        rollout: replaces the noised true history by the model's own, at timestep 0.
        learn_context: whether the first block of a window in mid-clip counts as well: rollouts begin with it.

    Returns:
        The loss (float32 scalar), and detached metrics: "flow_loss", and "flow_loss_low" / "flow_loss_high", the loss
        of blocks below and above t = 0.5 (absent if there are none).
    """
    clean = clean_latents(generator, batch)
    rows, blocks = clean.shape[0], clean.shape[2] // LATENTS_PER_BLOCK
    timestep_BN = training_timesteps((rows, blocks), config.timestep_shift, rng).to(clean.device)
    history_timestep_BN = draw_history_timestep(clean, config.history_noise_max, rng)
    if rollout is None:
        history = noised_history(clean, history_timestep_BN, rng)
    else:
        history_timestep_BN = torch.zeros_like(history_timestep_BN)
        history = self_rollout(generator, batch, rollout, rng)
    noise = draw_noise(clean, rng)
    conditions = draw_conditions(batch, rng)
    drop_speech = _draw_dropped(rows, config.audio_dropout, rng).to(clean.device)
    drop_references = _draw_dropped(rows, config.reference_dropout, rng).to(clean.device)

    predicted = generator(
        history,
        interpolate(clean, noise, per_latent(timestep_BN)),
        history_timestep=history_timestep_BN,
        timestep=timestep_BN,
        drop_speech=drop_speech,
        drop_references=drop_references | ~available_references(batch).any(dim=1),
        **conditions,
    )
    error_BL = squared_error(predicted, velocity(clean, noise))
    mask_BL = loss_mask(batch, context=0 if learn_context else LATENTS_PER_BLOCK)
    loss = masked_mean(error_BL, mask_BL)

    metrics = {"flow_loss": loss.detach()}
    low_BL = timestep_BN.repeat_interleave(LATENTS_PER_BLOCK, dim=1) < 0.5
    for name, chosen_BL in (("flow_loss_low", mask_BL * low_BL), ("flow_loss_high", mask_BL * ~low_BL)):
        if chosen_BL.sum() > 0:
            metrics[name] = masked_mean(error_BL, chosen_BL).detach()
    return loss, metrics


def _draw_dropped(rows: int, share: float, rng: torch.Generator) -> Tensor:
    return torch.rand(rows, generator=rng) < share

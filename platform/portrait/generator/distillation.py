"""Few-step sampling: a student does in one step, without guidance, what its teacher does in several guided steps.

Progressive distillation (Salimans & Ho 2022, arXiv 2202.00512) of a guided model (Meng et al. 2023, arXiv 2210.03142),
on rectified flow: the sampler's timesteps are split into as many intervals as the student has steps. From true latents
noised to the start of an interval the teacher takes its guided Euler steps to the interval's end; the student's
velocity at the start must lead there in one step. The student is trained and sampled only at its own few timesteps.

Shapes: B batch, L latents of a window, C = C_z, H W latent pixels, N blocks, P guidance passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from portrait.generator.config import SamplingConfig
from portrait.generator.flow import interpolate, per_latent
from portrait.generator.guidance import Guidance
from portrait.generator.model import Generator
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
from portrait.generator.timesteps import sampling_timesteps
from portrait.timing import LATENTS_PER_BLOCK

if TYPE_CHECKING:
    from portrait.presets import GeneratorTrainingConfig


def check_steps(teacher: SamplingConfig, steps: int) -> None:
    """Checks that a student with that many steps can follow the teacher.

    Raises:
        ValueError: the teacher's steps are not a multiple of them.
    """
    if steps < 1 or teacher.steps % steps:
        raise ValueError(f"the student's steps must divide the teacher's {teacher.steps}, got {steps}")


def distillation_loss(
    student: Generator,
    teacher: Generator,
    batch: Mapping[str, Tensor],
    *,
    sampling: SamplingConfig,
    steps: int,
    config: GeneratorTrainingConfig,
    rng: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """‖student(z, t) − (z′ − z) / (t′ − t)‖², z′ where the guided teacher leads from z at the student's next t′.

    Args:
        student: the model that is trained.
        teacher: a generator with the same latent statistics; no gradient flows to it.
        batch: see `teacher_forcing`.
        sampling: the teacher's steps, shift and guidance.
        steps: the student's steps, a divisor of the teacher's.
        config: the history's noise; its dropouts are not used, since the student has no guidance.
        rng: on the CPU; all draws come from it.

    Returns:
        The loss (float32 scalar) and its detached copy as the metric "distillation_loss".

    Raises:
        ValueError: `steps` does not divide the teacher's.
    """
    check_steps(sampling, steps)
    clean = clean_latents(student, batch)
    rows, blocks = clean.shape[0], clean.shape[2] // LATENTS_PER_BLOCK
    steps_per_interval = sampling.steps // steps
    timesteps = sampling_timesteps(sampling.steps, sampling.shift).to(clean.device)
    start_BN = steps_per_interval * torch.randint(steps, (rows, blocks), generator=rng).to(clean.device)
    history_timestep_BN = draw_history_timestep(clean, config.history_noise_max, rng)
    given = {
        "history": noised_history(clean, history_timestep_BN, rng),
        "history_timestep": history_timestep_BN,
        **draw_conditions(batch, rng),
    }
    absent_B = ~available_references(batch).any(dim=1)

    timestep_BN = timesteps[start_BN]
    noised = interpolate(clean, draw_noise(clean, rng), per_latent(timestep_BN))
    z = noised
    for step in range(steps_per_interval):
        now_BN, then_BN = timesteps[start_BN + step], timesteps[start_BN + step + 1]
        slope = guided_velocity(
            teacher, z, now_BN, given=given, absent_B=absent_B, guidance=Guidance.of(sampling)
        )
        z = z + per_latent(then_BN - now_BN) * slope
    target = (z - noised) / per_latent(timesteps[start_BN + steps_per_interval] - timestep_BN)

    predicted = student(noised=noised, timestep=timestep_BN, drop_references=absent_B, **given)
    loss = masked_mean(squared_error(predicted, target), loss_mask(batch, context=LATENTS_PER_BLOCK))
    return loss, {"distillation_loss": loss.detach()}


@torch.no_grad()
def guided_velocity(
    generator: Generator,
    z_BCLHW: Tensor,
    timestep_BN: Tensor,
    *,
    given: Mapping[str, Tensor],
    absent_B: Tensor,
    guidance: Guidance,
) -> Tensor:
    """The guided velocity of a whole window, all passes in one batch: [B, C, L, H, W] in float32.

    Args:
        generator: the model.
        z_BCLHW: the blocks being denoised.
        timestep_BN: their timesteps.
        given: the other arguments of `Generator.forward`, without the dropouts.
        absent_B: bool, rows without any reference.
        guidance: the passes.
    """

    def rows(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(guidance.passes, dim=0)

    drop_speech, drop_references = (
        torch.tensor(drop, device=z_BCLHW.device).repeat(len(z_BCLHW))
        for drop in (guidance.drop_speech, guidance.drop_references)
    )
    velocities = generator(
        noised=rows(z_BCLHW),
        timestep=rows(timestep_BN),
        drop_speech=drop_speech,
        drop_references=drop_references | rows(absent_B),
        **{name: rows(value) for name, value in given.items()},
    )
    return guidance.combine(velocities.float())

"""Few-step sampling: a student takes in one step, without guidance, what its teacher takes several guided steps for.

Progressive distillation (Salimans & Ho 2022) of a guided model (Meng et al. 2023), on rectified flow: the sampler's
grid of levels is cut into as many stretches as the student has steps. From true latents noised to a stretch's beginning
the teacher goes its guided Euler steps to the stretch's end; the student's velocity at the beginning shall lead there
in one. The student is trained and sampled at its own few levels alone.

Shapes: `B` batch, `L` latents of a window, `C` = C_z, `n` blocks, `P` guidance passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from portrait.generator.config import SamplingConfig
from portrait.generator.flow import (
    available_references,
    interpolate,
    learnt_latents,
    random_reference_mask,
)
from portrait.generator.guidance import Guidance
from portrait.generator.schedule import sampling_levels
from portrait.timing import LATENTS_PER_BLOCK

if TYPE_CHECKING:
    from portrait.presets.training import GeneratorTrainingConfig


def check_steps(teacher: SamplingConfig, steps: int) -> None:
    """Whether a student of so many steps can follow the teacher.

    Raises:
        ValueError: they are not a whole share of the teacher's.
    """
    if steps < 1 or teacher.steps % steps:
        raise ValueError(f"the student's steps must divide the teacher's {teacher.steps}, got {steps}")


def distillation_loss(
    student: nn.Module,
    teacher: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    sampling: SamplingConfig,
    steps: int,
    config: GeneratorTrainingConfig,
    rng: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """‖student(z, t) − (z′ − z) / (t′ − t)‖², z′ where the guided teacher comes from z on the student's next level t′.

    Args:
        student: a `Generator`, or a wrapper with it as `.module`.
        teacher: a `Generator`; no gradient flows to it.
        batch: as `flow_matching_loss` takes it.
        sampling: the teacher's steps, shift and guidance.
        steps: the student's steps, a divisor of the teacher's.
        config: the history's noise; its dropouts are not used, since the student has no guidance.
        rng: on the CPU; all draws come from it.

    Returns:
        The loss (float32 scalar) and its detached copy by the name of "distillation_loss".
    """
    check_steps(sampling, steps)
    clean = batch["latents"].float()
    device, (rows, _, latents) = clean.device, clean.shape[:3]
    blocks, each = latents // LATENTS_PER_BLOCK, sampling.steps // steps
    available = available_references(batch)

    def noise() -> Tensor:
        return torch.randn(clean.shape, generator=rng).to(device)

    def per_latent(level: Tensor) -> Tensor:
        return level.repeat_interleave(LATENTS_PER_BLOCK, dim=1)[:, None, :, None, None]

    grid = sampling_levels(sampling.steps, sampling.shift).to(device)
    stretch = each * torch.randint(steps, (rows, blocks), generator=rng).to(device)
    history_level = (torch.rand((rows, 1), generator=rng).to(device) * config.history_noise_max).expand(
        -1, blocks
    )
    given = {
        "history": interpolate(clean, noise(), per_latent(history_level)),
        "history_level": history_level,
        "references": batch["reference_latents"],
        "speech": batch["speech"],
        "is_first": batch["is_first"].bool(),
        "reference_mask": random_reference_mask(available, rng),
    }
    if "latent_mask" in batch:
        given["latent_mask"] = batch["latent_mask"].bool()
    absent = ~available.any(dim=1)
    start, level = interpolate(clean, noise(), per_latent(grid[stretch])), grid[stretch]
    z = start
    for step in range(each):
        now, then = grid[stretch + step], grid[stretch + step + 1]
        slope = guided_velocity(teacher, z, now, given=given, absent=absent, guidance=Guidance.of(sampling))
        z = z + per_latent(then - now) * slope
    target = (z - start) / per_latent(grid[stretch + each] - level)

    predicted = student(noised=start, level=level, drop_references=absent, **given)
    counts = learnt_latents(batch, context=LATENTS_PER_BLOCK)
    error = (predicted.float() - target).square().mean(dim=(1, 3, 4))
    loss = (error * counts).sum() / counts.sum().clamp(min=1)
    return loss, {"distillation_loss": loss.detach()}


@torch.no_grad()
def guided_velocity(
    generator: nn.Module,
    z: Tensor,
    level: Tensor,
    *,
    given: Mapping[str, Tensor],
    absent: Tensor,
    guidance: Guidance,
) -> Tensor:
    """The guided velocity of a whole window, all passes in one batch: [B, C, L, h, w] in float32.

    Args:
        generator: a `Generator`.
        z: [B, C, L, h, w], the blocks being denoised.
        level: [B, n], their levels.
        given: what else `Generator.forward` takes, but for the dropouts.
        absent: [B] bool, rows without references.
        guidance: the passes.
    """

    def rows(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(guidance.passes, dim=0)

    drop_speech, drop_references = (
        torch.tensor(drop, device=z.device).repeat(len(z))
        for drop in (guidance.drop_speech, guidance.drop_references)
    )
    velocities = generator(
        noised=rows(z),
        level=rows(level),
        drop_speech=drop_speech,
        drop_references=drop_references | rows(absent),
        **{name: rows(value) for name, value in given.items()},
    )
    return guidance.combine(velocities.float())

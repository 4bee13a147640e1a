"""Distils a generator: `python -m jobs.distill_generator --teacher FILE --latents URI --output DIR`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from jobs import command_line
from jobs.train_generator import TrainGenerator, generator_task
from pipelines.distillation_task import DistillationTask
from pipelines.task_options import check_weights
from pipelines.trainer import TrainingResult, fit
from portrait import presets
from portrait.generator.distillation import check_steps
from portrait.storage import checkpoints


@dataclass(frozen=True, kw_only=True)
class DistillGenerator(TrainGenerator):
    """Trains a student that samples in few steps and without guidance, from a teacher; OUTPUT/student.safetensors.

    The file contains its sampling: every job and the streaming application use its few steps automatically.
    """

    teacher: Path
    """File of the generator to distil; the student starts from its weights."""
    student_steps: int = 4
    """Euler steps of the student, a divisor of the teacher's own."""


def main(config: DistillGenerator) -> TrainingResult:
    """Trains and prints the path of the student."""
    preset = presets.load(config.preset)
    if config.init != "none":
        raise ValueError("--init must be 'none': a student starts from its --teacher")
    if config.training.rollout_share:
        raise ValueError(
            "--training.rollout-share must be 0: a student learns from its teacher on true history only"
        )
    check_weights(config.teacher, "generator", preset)
    check_steps(checkpoints.read_header(config.teacher).preset.sampling, config.student_steps)
    task = generator_task(dataclasses.replace(config, init=str(config.teacher)))
    result = fit(DistillationTask.of(task, config.student_steps), config.connect(), resume=config.resume)
    print(result.text("student"))
    return result


if __name__ == "__main__":
    command_line.run(main, DistillGenerator)

"""Distillation of a generator into a student of few steps without guidance, by the trainer that trained the teacher."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from pipelines.generator_task import GeneratorTask
from pipelines.task import Batch
from portrait.generator import Generator, SamplingConfig
from portrait.generator.distillation import distillation_loss
from portrait.presets import Preset
from portrait.storage import checkpoints


@dataclass(frozen=True, kw_only=True)
class DistillationTask(GeneratorTask):
    """Trains a student that starts as its teacher, which is `init`."""

    student_steps: int = 4
    """The student's Euler steps, a divisor of the preset's."""
    kind: str = "student"

    @classmethod
    def of(cls, task: GeneratorTask, student_steps: int) -> DistillationTask:
        """Distils the generator that `task` starts from, on its data."""
        fields = {
            field.name: getattr(task, field.name)
            for field in dataclasses.fields(task)
            if field.name != "kind"
        }
        return cls(**fields, student_steps=student_steps)

    def params(self) -> dict[str, Any]:
        return super().params() | {"student_steps": self.student_steps}

    @property
    def loss_name(self) -> str:
        return "distillation_loss"

    @property
    def student_sampling(self) -> SamplingConfig:
        """The student's few steps, without guidance."""
        return dataclasses.replace(
            self.preset.sampling, steps=self.student_steps, audio_guidance=1.0, reference_guidance=1.0
        )

    @property
    def exported_preset(self) -> Preset:
        return dataclasses.replace(self.preset, sampling=self.student_sampling)

    @cached_property
    def teacher(self) -> Generator:
        """The teacher, outside the engine: it is not trained."""
        assert self.init is not None
        return checkpoints.load_generator(self.init, preset=self.preset).requires_grad_(False)

    def loss(
        self, model: nn.Module, batch: Batch, *, seed: int, step: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        del seed, step
        return self._distillation(model, batch, rng)

    def window_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> torch.Tensor:
        return self._distillation(model, batch, rng)[0]

    def _distillation(
        self, model: nn.Module, batch: Batch, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        assert isinstance(model, Generator)
        return distillation_loss(
            model,
            self.teacher.to(model.device, model.dtype),
            batch,
            sampling=self.preset.sampling,
            steps=self.student_steps,
            config=self.training,
            rng=rng,
        )

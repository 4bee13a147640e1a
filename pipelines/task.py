"""What the trainer needs to know of a task: its model, its data, its loss, its measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from portrait.presets import OptimizerConfig

Batch = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """A stretch of training with one kind of batch."""

    name: str
    """What progress lines call it."""
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Examples a worker and (micro-)step."""
    learning_rate: float
    """Peak learning rate."""
    cost: float = 1.0
    """Relative cost of a step: how a limit in minutes is shared among the stages."""


@dataclass(frozen=True, kw_only=True)
class DataShard:
    """Which part of the data a rank reads, and from where on."""

    rank: int
    """This worker."""
    world_size: int
    """Number of workers."""
    seed: int
    """Fixes the order of the data and every random draw from it."""
    start_step: int = 0
    """Batches of this stage that were already seen."""
    readers: int = 1
    """Threads that read and decode."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures and pictures of one measurement."""

    metrics: Mapping[str, float]
    """Name to value."""
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name to uint8 [H, W, 3]."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What was not measured, and why."""


class Task(Protocol):
    """A training task: a small picklable description; everything heavy is built by its methods, in the worker."""

    @property
    def kind(self) -> str:
        """`vae`, `generator`: names the exported file and the experiment."""
        ...

    @property
    def stages(self) -> Sequence[TrainingStage]: ...

    @property
    def optimizer(self) -> OptimizerConfig: ...

    def params(self) -> dict[str, Any]:
        """What is logged with the run and must be equal when a run is resumed."""
        ...

    def build(self) -> nn.Module:
        """The model on the CPU, with its initial weights; the same on all ranks."""
        ...

    def batches(self, stage_index: int, shard: DataShard) -> Iterator[Batch]:
        """Endless CPU batches of a rank, the same from `start_step` on whether or not training was interrupted."""
        ...

    def loss(
        self, model: nn.Module, batch: Batch, *, seed: int, step: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Scalar loss and the metrics to log (scalars or 0-d tensors).

        Args:
            model: what `build` returned.
            batch: a batch of `batches`, on the model's device.
            seed: equal on all ranks.
            step: equal on all ranks; draws that change the graph must come from (seed, step) alone.
            rng: on the CPU, different on every rank and step; all other draws come from it.
        """
        ...

    def evaluate(self, model: nn.Module, stage_index: int) -> Evaluation:
        """Measures the averaged weights on held-out data; called on rank 0."""
        ...

    def export(self, model: nn.Module, path: Path, *, extra: Mapping[str, Any]) -> None:
        """Writes the averaged weights with their configuration, atomically."""
        ...

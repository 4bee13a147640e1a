"""What the trainer needs from a task: its model, its data, its loss, its evaluation."""

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
    """A part of training with one shape of batch and one learning-rate schedule."""

    name: str
    """Name in progress lines."""
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Examples per worker and batch."""
    learning_rate: float
    """Peak learning rate."""
    cost: float = 1.0
    """Relative cost of a step, by which a time limit is shared among the training stages."""


@dataclass(frozen=True, kw_only=True)
class DataShard:
    """Which part of the data a rank reads, and where it starts."""

    rank: int
    """Rank of this worker."""
    world_size: int
    """Number of workers."""
    seed: int
    """Seed of the data's order and of every random choice of windows."""
    start_step: int = 0
    """Batches of this training stage that were already read."""
    readers: int = 1
    """Threads that read and decode."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics and pictures of one evaluation."""

    metrics: Mapping[str, float]
    """Name to value."""
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name to uint8 [H, W, 3]."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Metrics that were not measured, by name, and why."""


class Task(Protocol):
    """A training task: a small picklable description; everything heavy is built by its methods, in the worker."""

    @property
    def kind(self) -> str:
        """`vae`, `generator`, …: names the exported file and the tracked run."""
        ...

    @property
    def stages(self) -> Sequence[TrainingStage]:
        """Training stages in order."""
        ...

    @property
    def optimizer(self) -> OptimizerConfig:
        """Optimiser, warm-up and weight average of all training stages."""
        ...

    def params(self) -> dict[str, Any]:
        """Parameters that are logged with the run and must be the same when it is resumed."""
        ...

    def build(self) -> nn.Module:
        """The model on the CPU with its initial weights; the trainer seeds PyTorch's global generator before."""
        ...

    def batches(self, stage_index: int, shard: DataShard) -> Iterator[Batch]:
        """Endless batches of a rank on the CPU; with `start_step` they continue as if they had not been interrupted."""
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
        """Measures the averaged weights on held-out data; called on rank 0 only."""
        ...

    def export(self, model: nn.Module, path: Path, *, extra: Mapping[str, Any]) -> None:
        """Writes the averaged weights with their configuration and `extra` to a model file, atomically."""
        ...

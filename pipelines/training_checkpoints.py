"""Checkpoints of a training run: the engine's state of every rank, the weight average and the progress.

They go through `ray.train.report`, which uploads them and keeps the newest ones. A checkpoint can be resumed with the
number of workers that wrote it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch

from pipelines.ema import WeightAverage
from pipelines.engine import load_engine, save_engine

_STATE_FILE = "state.json"
_AVERAGE_FILE = "average.pt"


@dataclass(kw_only=True)
class TrainingProgress:
    """Where training stands; equal on all ranks and part of every checkpoint."""

    stage: int = 0
    """Index of the current training stage."""
    step: int = 0
    """Optimiser steps done in this training stage."""
    total_steps: int = 0
    """Optimiser steps done in all training stages."""
    elapsed_s: float = 0.0
    """Seconds trained in all training stages."""
    stage_elapsed_s: float = 0.0
    """Seconds trained in this training stage."""
    ended: bool = False
    """Whether all training stages are done."""


def exported_path(output: str | Path, kind: str) -> Path:
    """The file that a task's averaged weights are exported to."""
    return Path(output) / f"{kind}.safetensors"


def write(
    engine: Any,
    average: WeightAverage | None,
    progress: TrainingProgress,
    metrics: Mapping[str, float],
    *,
    world_size: int,
    weights: Path,
) -> ray.train.Checkpoint:
    """Writes this rank's part of a checkpoint into a temporary folder; all ranks call it.

    Args:
        engine: the DeepSpeed engine.
        average: the weight average, on rank 0; None on the other ranks.
        progress: where training stands.
        metrics: the last evaluation.
        world_size: number of workers.
        weights: the exported weights, which rank 0 copies into the checkpoint.
    """
    folder = Path(tempfile.mkdtemp(prefix="checkpoint_"))
    save_engine(engine, folder)
    if average is not None:
        torch.save(average.state_dict(), folder / _AVERAGE_FILE)
        state = {"progress": asdict(progress), "workers": world_size, "metrics": dict(metrics)}
        (folder / _STATE_FILE).write_text(json.dumps(state))
        shutil.copyfile(weights, folder / weights.name)
    return ray.train.Checkpoint.from_directory(str(folder))


def restore(
    checkpoint: ray.train.Checkpoint, engine: Any, average: WeightAverage | None, *, world_size: int
) -> tuple[TrainingProgress, dict[str, float]]:
    """Loads a checkpoint into the engine and the average; returns the progress and the last evaluation.

    Raises:
        ValueError: the checkpoint was written by another number of workers.
    """
    with checkpoint.as_directory() as name:
        folder = Path(name)
        state = json.loads((folder / _STATE_FILE).read_text())
        if state["workers"] != world_size:
            raise ValueError(
                f"the checkpoint was written by {state['workers']} workers and can't be resumed with {world_size}"
            )
        load_engine(engine, folder)
        if average is not None:
            device = next(average.module.parameters()).device
            average.load_state_dict(
                torch.load(folder / _AVERAGE_FILE, map_location=device, weights_only=True)
            )
    # "figures" was the key of earlier releases.
    metrics = state["metrics"] if "metrics" in state else state["figures"]
    return TrainingProgress(**state["progress"]), metrics

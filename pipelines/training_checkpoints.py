"""Checkpoints of a training run: the engine's state of every rank, the weight average and the progress.

They go through `ray.train.report`, which uploads them and keeps the newest ones. A checkpoint can be resumed with the
number of workers that wrote it. Each rank lists the files that it wrote with their sizes: one that a crash or a
full disk left incomplete is detected and named, and the one before it is used instead.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from pyarrow import fs

from pipelines.ema import WeightAverage
from pipelines.engine import load_engine, save_engine

_STATE_FILE = "state.json"
_AVERAGE_FILE = "average.pt"
_MANIFEST = "files_of_rank_{rank}.json"
_CHECKPOINT_PREFIX = "checkpoint_"

logger = logging.getLogger(__name__)


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
    rank: int,
    world_size: int,
    weights: Path,
) -> ray.train.Checkpoint:
    """Writes this rank's part of a checkpoint into a temporary folder; all ranks call it.

    Args:
        engine: the DeepSpeed engine.
        average: the weight average, on rank 0; None on the other ranks.
        progress: where training stands.
        metrics: the last evaluation.
        rank: this worker's rank.
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
    sizes = {
        str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()
    }
    (folder / _MANIFEST.format(rank=rank)).write_text(json.dumps(sizes))
    return ray.train.Checkpoint.from_directory(str(folder))


def restore(
    checkpoint: ray.train.Checkpoint, engine: Any, average: WeightAverage | None, *, world_size: int
) -> tuple[TrainingProgress, dict[str, float]]:
    """Loads the newest complete checkpoint, from `checkpoint` backwards, into the engine and the average.

    All ranks look at the same files and come to the same choice.

    Returns:
        The progress and the last evaluation.

    Raises:
        ValueError: no checkpoint is complete, or it was written by another number of workers.
    """
    faults = []
    for candidate in (checkpoint, *_older(checkpoint)):
        with candidate.as_directory() as name:
            folder = Path(name)
            fault = incomplete(folder)
            if fault is not None:
                logger.warning("checkpoint %s: %s; using the one before", candidate.path, fault)
                faults.append(f"{candidate.path}: {fault}")
                continue
            return _load(folder, engine, average, world_size)
    raise ValueError(f"no complete checkpoint to resume from: {'; '.join(faults)}")


def incomplete(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files: the first one that is missing or shorter than written; None if complete.

    Checkpoints of earlier releases have no lists of files: of those only `state.json` is looked at.
    """
    try:
        state = json.loads((folder / _STATE_FILE).read_text())
    except FileNotFoundError:
        return f"{_STATE_FILE} is missing"
    except ValueError:
        return f"{_STATE_FILE} is cut off"
    if not list(folder.glob(_MANIFEST.format(rank="*"))):
        return None
    for rank in range(state["workers"]):
        manifest = folder / _MANIFEST.format(rank=rank)
        try:
            sizes = json.loads(manifest.read_text())
        except FileNotFoundError:
            return f"{manifest.name} is missing"
        except ValueError:
            return f"{manifest.name} is cut off"
        for name, size in sizes.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != size:
                return f"{name} has {file.stat().st_size} bytes, {size} were written"
    return None


def _older(checkpoint: ray.train.Checkpoint) -> list[ray.train.Checkpoint]:
    """The run's checkpoints from before this one, newest first; their names carry the time."""
    parent, _, name = checkpoint.path.rstrip("/").rpartition("/")
    assert checkpoint.filesystem is not None
    infos = checkpoint.filesystem.get_file_info(fs.FileSelector(parent, allow_not_found=True))
    names = sorted((info.base_name for info in infos if info.type == fs.FileType.Directory), reverse=True)
    return [
        ray.train.Checkpoint(f"{parent}/{other}", checkpoint.filesystem)
        for other in names
        if other.startswith(_CHECKPOINT_PREFIX) and other < name
    ]


def _load(
    folder: Path, engine: Any, average: WeightAverage | None, world_size: int
) -> tuple[TrainingProgress, dict[str, float]]:
    state = json.loads((folder / _STATE_FILE).read_text())
    if state["workers"] != world_size:
        raise ValueError(
            f"the checkpoint was written by {state['workers']} workers and can't be resumed with {world_size}"
        )
    load_engine(engine, folder)
    if average is not None:
        device = next(average.module.parameters()).device
        average.load_state_dict(torch.load(folder / _AVERAGE_FILE, map_location=device, weights_only=True))
    # "figures" was the key of earlier releases.
    metrics = state["metrics"] if "metrics" in state else state["figures"]
    return TrainingProgress(**state["progress"]), metrics

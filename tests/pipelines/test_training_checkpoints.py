"""Checkpoints hold the progress, the average and the metrics; those of earlier releases are still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray.train
import torch
from torch import nn

from pipelines import training_checkpoints
from pipelines.ema import WeightAverage
from pipelines.training_checkpoints import TrainingProgress


class Engine:
    """Stands in for DeepSpeed's engine: one file a checkpoint."""

    def __init__(self, value: int) -> None:
        self.value = value

    def save_checkpoint(self, folder: str, tag: str) -> None:
        (Path(folder) / tag).write_text(str(self.value))

    def load_checkpoint(self, folder: str, tag: str) -> tuple[str, None]:
        self.value = int((Path(folder) / tag).read_text())
        return folder, None


@pytest.fixture
def checkpoint(tmp_path: Path) -> ray.train.Checkpoint:
    weights = tmp_path / "vae.safetensors"
    weights.write_text("weights")
    average = WeightAverage(nn.Linear(2, 1), 0.9)
    average.updates = 5
    nn.init.constant_(average.module.weight, 7.0)  # type: ignore[arg-type]
    progress = TrainingProgress(stage=1, step=2, total_steps=9, elapsed_s=3.5)
    written: Any = training_checkpoints.write(
        Engine(3), average, progress, {"psnr_m0": 20.0}, world_size=2, weights=weights
    )
    assert (Path(written.path) / "vae.safetensors").read_text() == "weights"
    return written


def test_what_was_written_is_restored(checkpoint: ray.train.Checkpoint) -> None:
    engine, average = Engine(0), WeightAverage(nn.Linear(2, 1), 0.9)
    progress, metrics = training_checkpoints.restore(checkpoint, engine, average, world_size=2)
    assert progress == TrainingProgress(stage=1, step=2, total_steps=9, elapsed_s=3.5)
    assert metrics == {"psnr_m0": 20.0}
    assert (engine.value, average.updates) == (3, 5)
    assert torch.equal(average.module.weight, torch.full((1, 2), 7.0))  # type: ignore[arg-type]


def test_another_number_of_workers_is_refused(checkpoint: ray.train.Checkpoint) -> None:
    with pytest.raises(ValueError, match="written by 2 workers and can't be resumed with 3"):
        training_checkpoints.restore(checkpoint, Engine(0), None, world_size=3)


def test_a_checkpoint_of_an_earlier_release_is_read(checkpoint: ray.train.Checkpoint) -> None:
    file = Path(checkpoint.path) / "state.json"
    state = json.loads(file.read_text())
    state["figures"] = state.pop("metrics")
    file.write_text(json.dumps(state))
    assert training_checkpoints.restore(checkpoint, Engine(0), None, world_size=2)[1] == {"psnr_m0": 20.0}

"""Checkpoints hold the progress, the average and the metrics; those of earlier releases are still read."""

from __future__ import annotations

import json
import logging
import shutil
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


def written(folder: Path, step: int) -> Any:
    """A checkpoint of two ranks in a run's folder, as Ray Train merges them."""
    weights = folder / "vae.safetensors"
    weights.write_text("weights")
    average = WeightAverage(nn.Linear(2, 1), 0.9)
    average.updates = 5
    nn.init.constant_(average.module.weight, 7.0)  # type: ignore[arg-type]
    progress = TrainingProgress(stage=1, step=2, total_steps=step, elapsed_s=3.5)
    target = folder / "run" / f"checkpoint_{step:03d}"
    for rank in range(2):
        part: Any = training_checkpoints.write(
            Engine(step),
            average if rank == 0 else None,
            progress,
            {"psnr_m0": 20.0},
            rank=rank,
            world_size=2,
            weights=weights,
        )
        shutil.copytree(part.path, target, dirs_exist_ok=True)
        shutil.rmtree(part.path)
    assert (target / "vae.safetensors").read_text() == "weights"
    return ray.train.Checkpoint.from_directory(str(target))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Any:
    return written(tmp_path, 9)


def test_what_was_written_is_restored(checkpoint: ray.train.Checkpoint) -> None:
    engine, average = Engine(0), WeightAverage(nn.Linear(2, 1), 0.9)
    progress, metrics = training_checkpoints.restore(checkpoint, engine, average, world_size=2)
    assert progress == TrainingProgress(stage=1, step=2, total_steps=9, elapsed_s=3.5)
    assert metrics == {"psnr_m0": 20.0}
    assert (engine.value, average.updates) == (9, 5)
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


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "average.pt").write_bytes(b"short"), "average.pt has 5 bytes"),
        (lambda folder: (folder / "engine").unlink(), "engine is missing"),
        (lambda folder: (folder / "state.json").write_text('{"prog'), "state.json is cut off"),
        (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / "files_of_rank_1.json").unlink(), "files_of_rank_1.json is missing"),
    ],
)
def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Any, named: str
) -> None:
    written(tmp_path, 3)
    newest = written(tmp_path, 9)
    damage(Path(newest.path))
    engine = Engine(0)
    with caplog.at_level(logging.WARNING):
        progress, _ = training_checkpoints.restore(newest, engine, None, world_size=2)
    assert (progress.total_steps, engine.value) == (3, 3)
    assert "checkpoint_009" in caplog.text
    assert named in caplog.text


def test_without_a_whole_checkpoint_all_faults_are_named(tmp_path: Path) -> None:
    older, newest = written(tmp_path, 3), written(tmp_path, 9)
    for torn in (older, newest):
        (Path(torn.path) / "engine").unlink()
    with pytest.raises(ValueError, match=r"checkpoint_009: engine is missing; .*checkpoint_003: engine is"):
        training_checkpoints.restore(newest, Engine(0), None, world_size=2)

"""A short real training says what its steps waited; the first of a stage does not count."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipelines import wait_benchmark
from pipelines.training_settings import TrainingSettings
from pipelines.vae_task import VAETask
from pipelines.wait_benchmark import TrainingWait
from portrait import tracking
from portrait.presets import Preset


def task_of(clips: str, preset: Preset) -> VAETask:
    return VAETask(
        preset=preset,
        clips=clips,
        clips_version=1,
        training=preset.vae_training,
        evaluation_clips=1,
        evaluation_frames=5,
    )


def test_a_short_training_is_measured(micro_clips: str, micro_preset: Preset, output: str) -> None:
    wait = wait_benchmark.measure(
        "VAE", task_of(micro_clips, micro_preset), TrainingSettings(output=output, workers=0)
    )
    assert wait.task == "VAE"
    assert wait.steps == 5  # 4 + 3, less the first of each stage
    assert 0 <= wait.wait_s <= wait.step_s
    assert f"| {wait.steps} |" in wait_benchmark.markdown([wait])


def test_points_count_by_their_steps(tmp_path: Path) -> None:
    run = tracking.start_run("portrait", "curves", {}, output=tmp_path)
    for step, (step_s, wait_s) in {1: (90.0, 80.0), 4: (2.0, 0.5), 5: (6.0, 0.1)}.items():
        run.log_metrics({"data/step_seconds": step_s, "data/wait_seconds": wait_s}, step)
    run.finish()
    wait = wait_benchmark.of_run("x", run, first_steps=[1])
    assert wait == TrainingWait(task="x", steps=4, step_s=(3 * 2 + 6) / 4, wait_s=(3 * 0.5 + 0.1) / 4)
    assert wait.share == pytest.approx(1.6 / 12)


def test_a_stage_of_one_step_measures_nothing(micro_clips: str, micro_preset: Preset, output: str) -> None:
    task = task_of(micro_clips, micro_preset)
    stages = (dataclasses.replace(task.training.stages[0], steps=1),)
    short = dataclasses.replace(task, training=dataclasses.replace(task.training, stages=stages))
    with pytest.raises(ValueError, match="a stage needs at least 2 steps"):
        wait_benchmark.measure("VAE", short, TrainingSettings(output=output, workers=0))

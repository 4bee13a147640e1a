"""The trainer on a VAE that is too small to be good: in this process, and on Ray with two workers."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipelines import trainer
from pipelines.task import Batch
from pipelines.trainer import TrainingFailedError, fit
from pipelines.training_settings import TrainingSettings
from pipelines.vae_task import VAETask
from portrait import tracking
from portrait.presets import Preset
from portrait.storage import checkpoints
from portrait.vae import VideoVAE


@dataclasses.dataclass(frozen=True, kw_only=True)
class BreakingTask(VAETask):
    """Fails once at a step, as if a machine had crashed."""

    marker: str
    break_at: int

    def loss(
        self, model: nn.Module, batch: Batch, *, seed: int, step: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        if step == self.break_at and not Path(self.marker).exists():
            Path(self.marker).touch()
            raise RuntimeError("the lights went out")
        return super().loss(model, batch, seed=seed, step=step, rng=rng)


@pytest.fixture
def here_pickled_by_value() -> Iterator[None]:
    """Workers can't import test modules, so the task's class travels with it."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


def task_on(clips: str, preset: Preset) -> VAETask:
    return VAETask(
        preset=preset,
        clips=clips,
        clips_version=1,
        training=preset.vae_training,
        evaluation_clips=1,
        evaluation_frames=5,
    )


def test_in_this_process_all_stages_run_and_all_is_tracked(
    micro_clips: str, micro_preset: Preset, output: str
) -> None:
    settings = TrainingSettings(output=output, workers=0, evaluate_steps=3)
    task = task_on(micro_clips, micro_preset)
    task = dataclasses.replace(task, training=dataclasses.replace(task.training, kl_weight=1e-4))
    result = fit(task, settings)

    assert result.steps == 7
    assert isinstance(checkpoints.load_vae(result.weights, preset=micro_preset), VideoVAE)
    header = checkpoints.read_header(result.weights)
    assert header.extra["step"] == 7
    assert header.preset.vae_training == task.training
    assert header.extra["clips_version"] == 1
    names = ("psnr", "l1", "motion_within", "motion_between")
    assert set(result.metrics) == {f"{name}_m{count}" for name in names for count in range(4)}
    assert [step for step, _ in result.run.history("eval/psnr_m3")] == [3, 4, 6, 7]
    assert result.run.history("train/loss")
    artifacts = {path.name for path in Path(output, "mlartifacts").rglob("*") if path.is_file()}
    assert {"vae.safetensors", "reconstruction_0000007.png"} <= artifacts


def test_a_time_limit_ends_training_with_exported_weights(
    micro_clips: str, micro_preset: Preset, output: str
) -> None:
    stages = tuple(dataclasses.replace(stage, steps=10**6) for stage in micro_preset.vae_training.stages)
    training = dataclasses.replace(micro_preset.vae_training, stages=stages)
    task = dataclasses.replace(task_on(micro_clips, micro_preset), training=training)
    result = fit(task, TrainingSettings(output=output, workers=0, minutes=0.05))
    assert 2 <= result.steps < 10**5
    assert checkpoints.read_header(result.weights).extra["ended"]


def test_resuming_nothing_or_another_run_is_refused(
    micro_clips: str, micro_preset: Preset, output: str
) -> None:
    task = task_on(micro_clips, micro_preset)
    with pytest.raises(FileNotFoundError, match="no vae training to resume"):
        fit(task, TrainingSettings(output=output, workers=1), resume=True)
    stages = (dataclasses.replace(task.training.stages[0], steps=1),)
    short = dataclasses.replace(task, training=dataclasses.replace(task.training, stages=stages))
    fit(short, TrainingSettings(output=output, workers=0))
    with pytest.raises(ValueError, match=r"vae_training\.stages was"):
        fit(task, TrainingSettings(output=output, workers=1), resume=True)
    with pytest.raises(ValueError, match=r"has 0 workers, got --workers 2"):
        fit(short, TrainingSettings(output=output, workers=2), resume=True)


def test_a_run_of_an_earlier_release_can_be_resumed_unless_it_used_muon(
    micro_clips: str, micro_preset: Preset, tmp_path: Path
) -> None:
    task = task_on(micro_clips, micro_preset)
    params = json.loads(json.dumps(task.params()))
    params["vae_training"] |= params["vae_training"].pop("optimizer")
    del params["vae_training"]["motion_weight"]  # as if it were newer than the run
    task = dataclasses.replace(task, training=dataclasses.replace(task.training, motion_weight=0.0))
    run = tracking.start_run("portrait", "vae", {}, output=tmp_path)
    record = {"name": "vae-1", "run_id": run.run_id, "uri": run.uri, "params": params, "workers": 1}
    settings = TrainingSettings(output=str(tmp_path), workers=1)
    for name in ("adamw", "muon"):
        params["vae_training"]["optimizer"] = name
        trainer.record_path(tmp_path, "vae").write_text(json.dumps(record))
        if name == "adamw":
            assert trainer._resume(task, settings) == (run, "vae-1")
        else:
            with pytest.raises(ValueError, match="Muon, which is no longer available"):
                trainer._resume(task, settings)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_session", "here_pickled_by_value")
def test_a_killed_run_resumes_to_the_same_weights(
    micro_clips: str, micro_preset: Preset, tmp_path: Path
) -> None:
    """Two workers, ZeRO-2: uninterrupted, restarted by Ray Train, and resumed by hand give the same weights."""
    plain = task_on(micro_clips, micro_preset)
    stages = tuple(dataclasses.replace(stage, steps=2) for stage in plain.training.stages)
    plain = dataclasses.replace(plain, training=dataclasses.replace(plain.training, stages=stages))
    breaking = BreakingTask(
        **{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)},
        marker=str(tmp_path / "has_broken"),
        break_at=1,
    )

    def settings(name: str) -> TrainingSettings:
        return TrainingSettings(
            output=str(tmp_path / name), workers=2, checkpoint_steps=1, retries=0, timeout_s=120
        )

    expected = load_file(str(fit(plain, settings("plain")).weights))
    with pytest.raises(TrainingFailedError, match=r"worker \d: RuntimeError: the lights went out"):
        fit(breaking, settings("broken"))
    resumed = fit(breaking, settings("broken"), resume=True)

    assert resumed.steps == 4
    found = load_file(str(resumed.weights))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)
    # The same MLflow run went on: no step is missing from its curve.
    assert resumed.run.history("eval/psnr_m0")[-1][0] == 4

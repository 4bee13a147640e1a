"""Starts a training task on Ray Train and follows it to its end: one trainer for all tasks."""

from __future__ import annotations

import importlib.metadata
import json
import typing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from pipelines.task import Task
from pipelines.training_checkpoints import exported_path
from pipelines.training_loop import train_worker
from pipelines.training_settings import TrainingSettings
from portrait import tracking
from portrait.presets import Preset
from portrait.presets.serialization import from_dict, to_dict
from portrait.storage.migrations import migrate_preset

_EXPERIMENT = "portrait"


class TrainingFailedError(RuntimeError):
    """Training ended with an error in a worker; the message names the rank and the error."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a finished training run leaves."""

    weights: Path
    """The exported weight average."""
    metrics: dict[str, float]
    """Metrics of the last evaluation."""
    steps: int
    """Optimiser steps of all training stages."""
    run: tracking.Run
    """The tracked run."""

    def text(self, model: str) -> str:
        """For the terminal: where the weights are and how good they are.

        Args:
            model: what to call the model.
        """
        width = max(map(len, self.metrics), default=0)
        return "\n".join(
            (
                f"\n{model} after {self.steps} steps: {self.weights}",
                *(f"  {name:{width}} {value:.3f}" for name, value in self.metrics.items()),
                f"MLflow: {self.run.uri} run {self.run.run_id}",
            )
        )


def fit(task: Task, settings: TrainingSettings, *, resume: bool = False) -> TrainingResult:
    """Trains `task` and exports its averaged weights to `<output>/<kind>.safetensors`.

    Args:
        task: what to train.
        settings: how to train it.
        resume: continues the last run in the output folder instead of starting a new one.

    Raises:
        FileNotFoundError: there is no run to resume.
        ValueError: the run to resume differs in its task or number of workers, or a worker met a user's error.
        TrainingFailedError: workers crashed more often than `settings.retries`.
    """
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    run, name = _resume(task, settings) if resume else _start(task, settings)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"task": task, "settings": settings, "run": run},
        torch_config=TorchConfig(timeout_s=settings.timeout_s),
        scaling_config=ray.train.ScalingConfig(num_workers=settings.workers, use_gpu=settings.gpu),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(output / "checkpoints"),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=settings.retries),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        result = trainer.fit()
    except BaseException as error:
        run.finish(failed=True)
        if isinstance(error, ray.train.TrainingFailedError):
            raise _readable(error) from error
        raise
    weights = exported_path(output, task.kind)
    run.log_artifact(weights, "model")
    run.finish()
    return TrainingResult(
        weights=weights,
        metrics=dict(result.return_value or {}),
        steps=int((result.metrics or {}).get("step", 0)),
        run=run,
    )


def _start(task: Task, settings: TrainingSettings) -> tuple[tracking.Run, str]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "ray", "deepspeed", "pylance")}
    params = {**task.params(), "training": asdict(settings), "versions": versions}
    run = tracking.start_run(_EXPERIMENT, task.kind, params, output=settings.output, parent=settings.parent)
    # Ray Train resumes a run of the same name: the tracked run's id makes the name unique.
    name = f"{task.kind}-{run.run_id[:8]}"
    record = {
        "name": name,
        "run_id": run.run_id,
        "uri": run.uri,
        "params": task.params(),
        "workers": settings.workers,
    }
    record_path(settings.output, task.kind).write_text(json.dumps(record, indent=1))
    return run, name


def _resume(task: Task, settings: TrainingSettings) -> tuple[tracking.Run, str]:
    path = record_path(settings.output, task.kind)
    if settings.workers == 0:
        raise ValueError("--resume needs --workers 1 or more: training in this process writes no checkpoints")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no {task.kind} training to resume in this output folder")
    record: dict[str, Any] = json.loads(path.read_text())
    _check_same(_recorded_params(record), json.loads(json.dumps(task.params())))
    if record["workers"] != settings.workers:
        raise ValueError(
            f"--resume: the run has {record['workers']} workers, got --workers {settings.workers}"
        )
    run = tracking.attach(record["run_id"], record["uri"], output=settings.output)
    return run, record["name"]


def _recorded_params(record: dict[str, Any]) -> dict[str, Any]:
    """A run's parameters with the fields of this release; fields that it does not know have their defaults.

    Raises:
        ValueError: the run was trained with Muon, which this release does not have.
    """
    params = record["params"]
    for section in ("vae_training", "generator_training"):
        if params.get(section, {}).get("optimizer") == "muon":
            raise ValueError(
                "--resume: the run was trained with Muon, which is no longer available; start a new run from its "
                "weights with --init"
            )
    params = migrate_preset(params)
    for section, config_type in typing.get_type_hints(Preset).items():
        if isinstance(params.get(section), dict):  # named as in a preset, with the same fields
            params[section] = to_dict(from_dict(config_type, params[section], path=f"{section}."))
    return json.loads(json.dumps(params))


def _check_same(recorded: dict[str, Any], current: dict[str, Any]) -> None:
    before, now = tracking.flatten(recorded), tracking.flatten(current)
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ValueError(
                f"--resume: {key} was {before.get(key)!r} in that run, now it is {now.get(key)!r}"
            )


def record_path(output: str | Path, kind: str) -> Path:
    """The file that says which run an output folder holds; it is written when the run starts."""
    return Path(output) / f"{kind}_training.json"


def _readable(error: ray.train.TrainingFailedError) -> Exception:
    """The first failed worker's error in one line; a user's error keeps its type."""
    failures = getattr(error, "worker_failures", None) or {}
    for rank, failure in sorted(failures.items()):
        cause = getattr(failure, "_base_exc", None) or getattr(failure, "cause", None) or failure
        if isinstance(cause, (ValueError, FileNotFoundError)):
            return type(cause)(str(cause))
        return TrainingFailedError(f"training failed in worker {rank}: {type(cause).__name__}: {cause}")
    return TrainingFailedError(f"training failed: {error}")

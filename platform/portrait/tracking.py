"""Experiment tracking in MLflow: parameters, curves, pictures and models of a run.

A run is created once, in the driver, and written to from any process that holds its `Run`: a restarted worker continues
the same run instead of opening another. MLflow 3 has no plain `file:` stores, so without a server
(`MLFLOW_TRACKING_URI`) the store is an SQLite file in the output folder with its artifacts beside it.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np

TRACKING_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_LONGEST_PARAM = 500
_PARAMS_AT_ONCE = 100


def tracking_uri(output: str | Path) -> str:
    """Where runs are stored: `MLFLOW_TRACKING_URI` if it is set, otherwise an SQLite file in the output folder."""
    return os.environ.get(TRACKING_URI_VARIABLE) or f"sqlite:///{Path(output).absolute() / 'mlflow.db'}"


@cache
def _client(uri: str) -> Any:
    # MLflow takes seconds to import, and logs every migration of a new SQLite file.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A handle on one tracked run, small and picklable, so that it can be sent to workers."""

    run_id: str
    """MLflow's id of the run."""
    uri: str
    """Tracking URI of the store that holds it."""

    def __enter__(self) -> Self:
        """The run ends with the `with` block, as failed if an exception ended the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs parameters, nested ones by dotted names; a logged parameter can't be changed."""
        from mlflow.entities import Param

        flat = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in flatten(params).items()]
        for start in range(0, len(flat), _PARAMS_AT_ONCE):
            _client(self.uri).log_batch(self.run_id, params=flat[start : start + _PARAMS_AT_ONCE])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs each metric at `step`; a value that is not finite sets the tag `not_finite.<name>` instead."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        finite = [
            Metric(key, float(value), now, step) for key, value in metrics.items() if math.isfinite(value)
        ]
        others = [
            RunTag(f"not_finite.{key}", str(step))
            for key, value in metrics.items()
            if not math.isfinite(value)
        ]
        _client(self.uri).log_batch(self.run_id, metrics=finite, tags=others)

    def log_image(self, image: np.ndarray, name: str) -> None:
        """Stores a picture, uint8 [H, W, 3], as the artifact `name` (such as `eval/step_001000.png`)."""
        from PIL import Image

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            Image.fromarray(image).save(path)
            self.log_artifact(path, str(Path(name).parent))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Stores a file as an artifact, optionally in a folder among the run's artifacts."""
        _client(self.uri).log_artifact(self.run_id, str(path), None if folder in (None, ".") else folder)

    def log_dict(self, values: Mapping[str, Any], name: str) -> None:
        """Stores a dictionary as a JSON artifact (such as `evaluation.json`)."""
        _client(self.uri).log_dict(self.run_id, dict(values), name)

    def log_text(self, text: str, name: str) -> None:
        """Stores a text as an artifact."""
        _client(self.uri).log_text(self.run_id, text, name)

    def set_tag(self, key: str, value: str) -> None:
        """Sets a tag, which runs can be searched by."""
        _client(self.uri).set_tag(self.run_id, key, value)

    def metrics(self) -> dict[str, float]:
        """The last value of every curve."""
        return dict(_client(self.uri).get_run(self.run_id).data.metrics)

    def history(self, metric: str) -> list[tuple[int, float]]:
        """A metric's curve as (step, value), in the order of the steps."""
        points = _client(self.uri).get_metric_history(self.run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def finish(self, *, failed: bool = False) -> None:
        """Marks the run as ended."""
        _client(self.uri).set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def start_run(
    experiment: str, name: str, params: Mapping[str, Any], *, output: str | Path, parent: Run | None = None
) -> Run:
    """Creates a run; the driver does this, once.

    Args:
        experiment: the MLflow experiment, created if it does not exist.
        name: the run's name.
        params: parameters; dictionaries may be nested.
        output: folder of the SQLite store and its artifacts, used if no server is set.
        parent: a run that this one is part of: it is listed under it, in the same store.
    """
    uri = parent.uri if parent else tracking_uri(output)
    client = _client(uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        experiment_id = found.experiment_id
    else:
        artifacts = (Path(output).absolute() / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        experiment_id = client.create_experiment(experiment, artifact_location=artifacts)
    run = Run(run_id=client.create_run(experiment_id, run_name=name).info.run_id, uri=uri)
    if parent:
        run.set_tag("mlflow.parentRunId", parent.run_id)
    run.log_params(params)
    return run


def attach(run_id: str, uri: str) -> Run:
    """An existing run, marked as running again.

    Raises:
        ValueError: the store has no run of that id.
    """
    from mlflow.exceptions import MlflowException

    try:
        _client(uri).get_run(run_id)
    except MlflowException as error:
        raise ValueError(f"MLflow store {uri} has no run {run_id!r}") from error
    _client(uri).update_run(run_id, status="RUNNING")
    return Run(run_id=run_id, uri=uri)


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, by dotted names: `{"a": {"b": 1}}` → `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat

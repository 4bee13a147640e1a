"""Experiment tracking in MLflow: parameters, curves, pictures and models of a run.

A run is created once, in the driver, and written to from any process that holds its `Run`: a restarted worker continues
the same run instead of opening another. MLflow 3 no longer has plain `file:` stores, so without a server
(`MLFLOW_TRACKING_URI`) the store is an SQLite file in the output folder with its artifacts next to it.

Tracking never stops the work: while a server cannot be reached, what is logged goes into that SQLite file, and into the
run on the server once it is back (`portrait.tracking_outage`).
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from portrait import tracking_outage
from portrait.tracking_outage import client_of, failures, local_uri, tracking_uri

__all__ = ["Run", "attach", "flatten", "start_run", "tracking_uri"]

logger = logging.getLogger(__name__)
_LONGEST_PARAM = 500
_PARAMS_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Run:
    """A handle on one tracked run; small and picklable, so that it travels to the workers."""

    run_id: str
    """MLflow's id of the run."""
    uri: str
    """Tracking URI of the store that holds it."""
    fallback: str | None = None
    """URI of the local store that takes over while the server cannot be reached; None if `uri` is itself local."""

    def __enter__(self) -> Self:
        """Ends the run with the `with` block, as failed if an exception or an interruption ended the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.finish(failed=kind is not None)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs parameters, nested ones under dotted names; a parameter cannot be changed once logged."""
        from mlflow.entities import Param

        flat = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in flatten(params).items()]
        for start in range(0, len(flat), _PARAMS_AT_ONCE):
            batch = flat[start : start + _PARAMS_AT_ONCE]
            self._write(lambda client, run_id, batch=batch: client.log_batch(run_id, params=batch))

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs one point per curve at an optimiser step; a non-finite value becomes the tag `not_finite.<name>`."""
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
        self._write(lambda client, run_id: client.log_batch(run_id, metrics=finite, tags=others))

    def log_image(self, image: np.ndarray, name: str) -> None:
        """Stores a picture, uint8 [H, W, 3], as the artifact `<name>` (`eval/step_001000.png`)."""
        from PIL import Image

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            Image.fromarray(image).save(path)
            self.log_artifact(path, str(Path(name).parent))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Stores a file as an artifact of the run, in an optional folder among its artifacts."""
        place = None if folder in (None, ".") else folder
        self._write(lambda client, run_id: client.log_artifact(run_id, str(path), place))

    def log_dict(self, values: Mapping[str, Any], name: str) -> None:
        """Stores a dictionary as a JSON artifact (`evaluation.json`)."""
        self._write(lambda client, run_id: client.log_dict(run_id, dict(values), name))

    def log_text(self, text: str, name: str) -> None:
        """Stores a text as an artifact."""
        self._write(lambda client, run_id: client.log_text(run_id, text, name))

    def set_tag(self, key: str, value: str) -> None:
        """Sets a searchable tag on the run."""
        self._write(lambda client, run_id: client.set_tag(run_id, key, value))

    def metrics(self) -> dict[str, float]:
        """The last value of every curve."""
        return dict(client_of(self.uri).get_run(self.run_id).data.metrics)

    def history(self, metric: str) -> list[tuple[int, float]]:
        """A curve as (step, value), ordered by step."""
        points = client_of(self.uri).get_metric_history(self.run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def finish(self, *, failed: bool = False) -> None:
        """Marks the run as ended, after uploading what was logged locally during an outage of the server.

        While the server is still away, that stays in the local store and the log says how to upload it.
        """
        status = "FAILED" if failed else "FINISHED"
        self._write(lambda client, run_id: client.set_terminated(run_id, status))
        tracking_outage.catch_up(self.run_id, self.uri, self.fallback)

    def _write(self, send: Callable[[Any, str], object]) -> None:
        """Sends to the store, or to the local one while the server cannot be reached; never raises for that."""
        place = tracking_outage.substitute(self.run_id, self.uri)
        if place is None:
            try:
                send(client_of(self.uri), self.run_id)
                return
            except failures() as error:
                place = tracking_outage.begin(self.run_id, self.uri, self.fallback, error)
        if place is None:
            return
        try:
            send(client_of(place.uri), place.run_id)
        except failures() as error:
            logger.warning("MLflow store %s: not logged (%s)", place.uri, tracking_outage.reason(error))


def start_run(
    experiment: str, name: str, params: Mapping[str, Any], *, output: str | Path, parent: Run | None = None
) -> Run:
    """Creates a run; the driver does this, once. If the server cannot be reached, the run begins in the local store.

    Args:
        experiment: the MLflow experiment, created if it is missing.
        name: the run's name in MLflow's pages.
        params: parameters, nested dictionaries allowed.
        output: folder of the SQLite store and its artifacts, if no server is set or it cannot be reached.
        parent: a run that this one is part of: it goes to the same store and is listed under it.

    Raises:
        ValueError: the server refuses the run, as with wrong credentials.
    """
    uri = parent.uri if parent else tracking_uri(output)
    tags = {"mlflow.parentRunId": parent.run_id} if parent else {}
    fallback = local_uri(output)
    local = uri.startswith("sqlite:")
    try:
        run_id = tracking_outage.create_run(uri, experiment, name, tags)
        run = Run(run_id=run_id, uri=uri, fallback=None if local else fallback)
    except failures() as error:
        if local or tracking_outage.refused(error):
            raise ValueError(f"MLflow store {uri}: {tracking_outage.reason(error)}") from error
        run_id = tracking_outage.begin_locally(uri, fallback, experiment, name, tags=tags, error=error)
        run = Run(run_id=run_id, uri=fallback)
    run.log_params(params)
    return run


def attach(run_id: str, uri: str, *, output: str | Path | None = None) -> Run:
    """The run with that id, to be continued; marks it as running again.

    Args:
        run_id: MLflow's id of the run.
        uri: tracking URI of the store that holds it.
        output: as in `start_run`; without it a server that cannot be reached is an error.

    Raises:
        ValueError: the store has no such run, or cannot be reached and there is no output folder.
    """
    fallback = None if output is None or uri.startswith("sqlite:") else local_uri(output)
    run = Run(run_id=run_id, uri=uri, fallback=fallback)
    try:
        found = client_of(uri).get_run(run_id)
        moved = tracking_outage.moved_to(found)
        if moved is not None:
            return attach(*moved, output=output)
        client_of(uri).update_run(run_id, status="RUNNING")
    except failures() as error:
        if tracking_outage.refused(error) or fallback is None:
            why = tracking_outage.reason(error)
            raise ValueError(f"MLflow store {uri} has no run {run_id!r} ({why})") from error
        tracking_outage.begin(run_id, uri, fallback, error)
    return run


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted names: `{"a": {"b": 1}}` → `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat

"""What happens to tracking while an MLflow server cannot be reached: a local SQLite store stands in for it.

The first failure gives a warning, and what is logged from then on goes to a stand-in run in `OUTPUT/mlflow.db`, tagged
with the server and the run that it belongs to. When the run ends, or when the server answers again (it is tried every
minute), the stand-in's parameters, curves, tags and artifacts are uploaded and the stand-in is deleted.
`python -m jobs.upload_tracking` uploads what is left after that. MLflow drops points that it already has, so an
interrupted upload is simply repeated.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

logger = logging.getLogger(__name__)

TRACKING_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_SERVER_TAG, _RUN_TAG = "portrait.server", "portrait.server_run"
"""Tags of a stand-in: the server that it is meant for, and the run there ("" for one that is still to be created)."""
_LOOK_AGAIN_S = 60.0
_POINTS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100
_REFUSALS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(kw_only=True)
class StandIn:
    """The local run that takes the place of one on a server."""

    run_id: str
    uri: str
    look_again_at: float
    """`time.monotonic()` from which the server is tried again."""


_stand_ins: dict[tuple[str, str], StandIn] = {}
"""This process's outages, by the run's id and the server's URI."""


def tracking_uri(output: str | Path) -> str:
    """Where runs are kept: `MLFLOW_TRACKING_URI` if it is set, otherwise an SQLite file in the output folder."""
    return os.environ.get(TRACKING_URI_VARIABLE) or local_uri(output)


def local_uri(output: str | Path) -> str:
    """The URI of the SQLite store in an output folder."""
    return f"sqlite:///{Path(output).absolute() / 'mlflow.db'}"


@cache
def client_of(uri: str) -> Any:
    """An `MlflowClient` of a store. Requests to a server fail within seconds, not after MLflow's four minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # MLflow prints every migration of a fresh SQLite file, and urllib3 every attempt at a server that is away.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def create_run(uri: str, experiment: str, name: str, tags: Mapping[str, str]) -> str:
    """Creates a run, and its experiment if that is missing; returns the run's id."""
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        experiment_id = found.experiment_id
    else:
        local = uri.startswith("sqlite:///")
        folder = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
        experiment_id = client.create_experiment(
            experiment, artifact_location=folder.as_uri() if local else None
        )
    return client.create_run(experiment_id, run_name=name, tags=dict(tags)).info.run_id


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when a store fails (errors of `requests` are OSErrors); importing it takes seconds."""
    from mlflow.exceptions import MlflowException

    return (MlflowException, OSError)


def refused(error: BaseException) -> bool:
    """Whether a server answered with a refusal, as opposed to not answering."""
    return getattr(error, "error_code", None) in _REFUSALS


def reason(error: BaseException) -> str:
    """An MLflow error's reason in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]} …"


def begin(run_id: str, uri: str, fallback: str | None, error: BaseException) -> StandIn | None:
    """Begins an outage of a run's server: warns once and opens the stand-in.

    Returns:
        The stand-in; None if the store is local: then the warning is all that can be done.
    """
    if fallback is None:
        logger.warning("MLflow store %s: not logged (%s)", uri, reason(error))
        return None
    try:
        tags = {_SERVER_TAG: uri, _RUN_TAG: run_id}
        found = _find(fallback, run_id)
        local_id = found or create_run(fallback, "portrait", f"stand-in for {run_id}", tags)
    except failures() as second:
        logger.warning("MLflow is not available: neither %s nor %s (%s)", uri, fallback, reason(second))
        return None
    _warn(uri, fallback, error)
    look_again_at = time.monotonic() + _LOOK_AGAIN_S
    stand_in = _stand_ins[run_id, uri] = StandIn(run_id=local_id, uri=fallback, look_again_at=look_again_at)
    return stand_in


def begin_locally(
    uri: str, fallback: str, experiment: str, name: str, *, tags: Mapping[str, str], error: BaseException
) -> str:
    """Starts a run in the local store because its server is away; returns its local id."""
    _warn(uri, fallback, error)
    return create_run(fallback, experiment, name, {**tags, _SERVER_TAG: uri, _RUN_TAG: ""})


def substitute(run_id: str, uri: str) -> StandIn | None:
    """The stand-in of a run during an outage; None if the server can be reached.

    Once a minute the server is tried again, and gets what was missed.
    """
    stand_in = _stand_ins.get((run_id, uri))
    if stand_in is None or time.monotonic() < stand_in.look_again_at:
        return stand_in
    if _upload_quietly(stand_in.uri, stand_in.run_id):
        return None
    stand_in.look_again_at = time.monotonic() + _LOOK_AGAIN_S
    return stand_in


def catch_up(run_id: str, uri: str, fallback: str | None) -> None:
    """Uploads what any process logged locally for a run that has ended; logs what to do if that fails."""
    store = uri if fallback is None else fallback
    if not store.startswith("sqlite:///") or not Path(store.removeprefix("sqlite:///")).exists():
        return
    try:
        local_id = run_id if fallback is None and _server_of(store, run_id) else _find(store, run_id)
    except failures():
        return
    if local_id is None or _upload_quietly(store, local_id):
        return
    folder = Path(store.removeprefix("sqlite:///")).parent
    logger.warning(
        "the MLflow server is still away; upload the run later: python -m jobs.upload_tracking --output %s",
        folder,
    )


def pending(store: str) -> list[str]:
    """Ids of the runs in a local store that wait for their server."""
    client = client_of(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    # Tag names with dots need backquotes in MLflow's filter.
    found = client.search_runs(experiments, filter_string=f"tags.`{_SERVER_TAG}` LIKE '%'", max_results=1000)
    return [run.info.run_id for run in found]


def upload(store: str, local_id: str, *, server: str | None = None) -> str:
    """Uploads a pending run to its server and deletes it locally.

    Args:
        store: URI of the local store.
        local_id: the run in it.
        server: another server than the one that the run was meant for.

    Returns:
        The run's id on the server.

    Raises:
        MlflowException: the server fails, or refuses the run. The local run is kept, and can be uploaded again.
    """
    source = client_of(store)
    run = source.get_run(local_id)
    meant_for = run.data.tags[_SERVER_TAG]
    uri = server or meant_for
    tags = {k: v for k, v in run.data.tags.items() if k not in (_SERVER_TAG, _RUN_TAG)}
    run_id = run.data.tags[_RUN_TAG]
    if not run_id:
        experiment = source.get_experiment(run.info.experiment_id).name
        run_id = create_run(uri, experiment, run.info.run_name, tags)
        # From here on a repeated upload adds to that run instead of creating another.
        source.set_tag(local_id, _RUN_TAG, run_id)
        source.set_tag(local_id, _SERVER_TAG, uri)
    else:
        tags = {k: v for k, v in tags.items() if not k.startswith("mlflow.")}
    _copy(source, run, client_of(uri), run_id, tags)
    source.delete_run(local_id)
    for key, stand_in in list(_stand_ins.items()):
        if stand_in.run_id == local_id:
            del _stand_ins[key]
    return run_id


def _copy(source: Any, run: Any, target: Any, run_id: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import Param, RunTag

    params = [Param(key, value) for key, value in run.data.params.items()]
    for start in range(0, len(params), _PARAMS_AT_ONCE):
        target.log_batch(run_id, params=params[start : start + _PARAMS_AT_ONCE])
    target.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()][:_PARAMS_AT_ONCE])
    for name in run.data.metrics:
        points = source.get_metric_history(run.info.run_id, name)
        for start in range(0, len(points), _POINTS_AT_ONCE):
            target.log_batch(run_id, metrics=points[start : start + _POINTS_AT_ONCE])
    artifacts = Path(unquote(urlparse(run.info.artifact_uri).path))
    if artifacts.is_dir() and any(artifacts.iterdir()):
        target.log_artifacts(run_id, str(artifacts))
    if run.info.status in ("FINISHED", "FAILED"):
        target.set_terminated(run_id, run.info.status, run.info.end_time)


def _upload_quietly(store: str, local_id: str) -> bool:
    """Whether the upload worked."""
    try:
        upload(store, local_id)
    except failures():
        return False
    logger.warning("the MLflow server is back: what was logged locally is uploaded")
    return True


def _find(store: str, run_id: str) -> str | None:
    """The stand-in of a server's run in a local store, whichever process created it."""
    client = client_of(store)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, filter_string=f"tags.`{_RUN_TAG}` = '{run_id}'", max_results=1)
    return found[0].info.run_id if found else None


def _server_of(store: str, local_id: str) -> str | None:
    return client_of(store).get_run(local_id).data.tags.get(_SERVER_TAG)


def moved_to(run: Any) -> tuple[str, str] | None:
    """(id, URI) of the run on the server that a locally begun run was uploaded to; None for any other run."""
    tags = run.data.tags
    if run.info.lifecycle_stage != "deleted" or not tags.get(_RUN_TAG):
        return None
    return tags[_RUN_TAG], tags[_SERVER_TAG]


def _warn(uri: str, fallback: str, error: BaseException) -> None:
    logger.warning(
        "MLflow server %s cannot be reached (%s); logging to %s until it is back",
        uri,
        reason(error),
        fallback,
    )

"""Uploads what was logged locally while the MLflow server was away: `python -m jobs.upload_tracking --output DIR`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs import command_line
from portrait import tracking_outage


@dataclass(frozen=True, kw_only=True)
class UploadTracking:
    """Uploads runs that a job logged to OUTPUT/mlflow.db because the MLflow server could not be reached."""

    output: Path
    """The job's output folder."""
    server: str | None = None
    """Tracking URI to upload new runs to; by default the server that each run was meant for."""


def main(config: UploadTracking) -> list[str]:
    """Uploads the runs, prints each one's id on the server, and returns the ids.

    Raises:
        FileNotFoundError: the folder holds no tracking store.
        ValueError: the server cannot be reached; nothing is lost, and the command can be repeated.
    """
    database = config.output / "mlflow.db"
    if not database.is_file():
        raise FileNotFoundError(f"{database}: no tracking store in this output folder")
    store = tracking_outage.local_uri(config.output)
    uploaded = []
    for local_id in tracking_outage.pending(store):
        try:
            uploaded.append(tracking_outage.upload(store, local_id, server=config.server))
        except tracking_outage.failures() as error:
            raise ValueError(
                f"upload failed after {len(uploaded)} runs: {tracking_outage.reason(error)}"
            ) from error
        print(f"uploaded run {uploaded[-1]}")
    if not uploaded:
        print(f"{database}: no run is waiting to be uploaded")
    return uploaded


if __name__ == "__main__":
    command_line.run(main, UploadTracking)

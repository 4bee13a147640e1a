"""Jobs through `ray job submit`, with the working directory as runtime environment, read back from MLflow."""

from __future__ import annotations

import math
import shlex
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portrait.storage.clips import ClipTable

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.jobs.conftest import JobCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


def test_platform_is_the_standard_librarys_in_a_submitted_job(
    job_cluster: JobCluster, repository: Path, tmp_path: Path
) -> None:
    # The job's working folder is the unpacked repository, which holds a folder `platform`.
    told = tmp_path / "told.txt"
    program = (
        "import os, platform, ray; ray.init(); "
        "seen = ray.remote(lambda: __import__('platform').__file__); "
        "assert os.path.isdir('platform/portrait'), os.listdir('.'); "
        f"open({str(told)!r}, 'w').write(platform.__file__ + '\\n' + ray.get(seen.remote()))"
    )
    answer = job_cluster.submit(repository, ["python", "-c", program], {})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    standard_library = Path(sysconfig.get_paths()["stdlib"]).resolve()
    seen = [Path(line).resolve().parent for line in told.read_text().splitlines()]
    assert seen == [standard_library, standard_library]


def test_data_and_training_run_as_submitted_jobs(
    job_cluster: JobCluster, repository: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips.lance"
    flags = ["--preset", "tiny", "--output", str(tmp_path)]
    environment = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "MLFLOW_TRACKING_URI": ""}
    prepare = ["python", "-m", "jobs.prepare_data", "--source", "synthetic:3x1x2", *flags]
    answer = job_cluster.submit(repository, prepare, environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert ClipTable.open(str(clips)).num_rows == 3

    train = ["python", "-m", "jobs.train_vae", "--clips", str(clips), *flags]
    train += ["--stages", "0", "--steps", "3", "--batch-size", "2", "--workers", "2", "--zero-stage", "2"]
    answer = job_cluster.submit(repository, train, environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (tmp_path / "vae.safetensors").is_file()

    run = _run_besides_data(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert run.info.status == "FINISHED"
    assert run.data.params["preset"] == "tiny"
    assert run.data.params["training.zero_stage"] == "2"
    assert math.isfinite(run.data.metrics["train/loss"])
    assert 0 < run.data.metrics["eval/psnr_m1"] < 60


def test_a_users_error_fails_the_job_in_one_line(
    job_cluster: JobCluster, repository: Path, tmp_path: Path
) -> None:
    train = ["python", "-m", "jobs.train_vae", "--preset", "huge", "--output", str(tmp_path)]
    answer = job_cluster.submit(repository, train, {})
    assert answer.returncode != 0
    assert "error: unknown preset 'huge'; known presets: tiny, small, paper" in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stdout, shlex.join(train)


def _run_besides_data(uri: str) -> Run:
    """The one run that is left beside data preparation's own."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = {run.data.tags["mlflow.runName"]: run for run in client.search_runs(experiments)}
    assert runs.pop("prepare_data").info.status == "FINISHED"
    (run,) = runs.values()
    return run

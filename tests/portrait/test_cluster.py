import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from portrait import cluster


def test_a_local_worker_finds_all_packages(repository: Path) -> None:
    path = cluster.local_runtime_env()["env_vars"]["PYTHONPATH"]
    names = ", ".join(cluster.PACKAGES)
    code = f"import {names}, platform; print(platform.python_version())"
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    )


def test_a_cluster_gets_the_packages_unless_the_job_brought_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    sent = cluster.cluster_runtime_env()["py_modules"]
    assert {Path(folder).name for folder in sent} == set(cluster.PACKAGES)
    brought = {"runtime_env": {"py_modules": ["gcs://package.zip"]}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(brought))
    assert cluster.cluster_runtime_env() == {}

"""How a job finds its Ray: the cluster it was submitted to, or a local Ray of its own.

The code reaches the workers in one of three ways: it is installed in their image; it came with the job's runtime
environment (`working_dir` and `py_modules`); or `connect` uploads it. A local Ray only needs the source roots on its
workers' path.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import Any

import ray

PACKAGES = ("portrait", "pipelines", "data_prep", "serve_apps", "jobs")
_ADDRESS_VARIABLE = "RAY_ADDRESS"
_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def connect(num_cpus: int | None = None, *, dashboard: bool = False) -> None:
    """Connects to the cluster named by `RAY_ADDRESS` (set for a submitted job), or starts a local Ray.

    `address="auto"` is never used: with several Ray instances on a machine it may connect to another user's.

    Args:
        num_cpus: logical CPUs of a local Ray; the machine's cores if there are more of them.
        dashboard: whether a local Ray starts its dashboard.
    """
    if ray.is_initialized():
        return
    address = os.environ.get(_ADDRESS_VARIABLE)
    if address and address not in ("local", "auto"):
        ray.init(address=address, runtime_env=cluster_runtime_env(), logging_level=logging.WARNING)
        return
    ray.init(
        address="local",
        num_cpus=max(num_cpus or 0, available_cores()),
        include_dashboard=dashboard,
        runtime_env=local_runtime_env(),
        logging_level=logging.WARNING,
    )


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_per_worker(workers: int) -> int:
    """Threads for each of `workers` processes that share this machine's cores, at least 1."""
    return max(1, available_cores() // max(1, workers))


def local_runtime_env() -> dict[str, Any]:
    """Runtime environment of a local Ray: the source roots on the workers' path, and quieter logs."""
    roots = dict.fromkeys(str(folder.parent) for folder in package_folders())
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = dict.fromkeys([*roots, *(str(Path(entry).absolute()) for entry in inherited)])
    return {
        "env_vars": {"PYTHONPATH": os.pathsep.join(path)},
        "worker_process_setup_hook": "portrait.cluster.quiet_worker",
    }


def quiet_worker() -> None:
    """Silences Ray Train's cleaner of placement groups, which asks the dashboard every second: a local Ray has none.

    Also sets `RAY_ADDRESS`, without which it would look for the dashboard of another Ray on this machine.
    """
    guard = "ray.train.v2._internal.execution.controller.placement_group_cleaner"
    logging.getLogger(guard).setLevel(logging.ERROR)
    os.environ.setdefault(_ADDRESS_VARIABLE, ray.get_runtime_context().gcs_address)


def cluster_runtime_env() -> dict[str, Any]:
    """Runtime environment for a cluster: our packages, unless the job's environment or the image has them."""
    submitted = json.loads(os.environ.get(_JOB_VARIABLE) or "{}").get("runtime_env") or {}
    if isinstance(submitted, str):
        submitted = json.loads(submitted)
    folders = [folder for folder in package_folders() if "site-packages" not in folder.parts]
    if submitted.get("py_modules") or not folders:
        return {}
    return {"py_modules": [str(folder) for folder in folders], "excludes": ["**/__pycache__"]}


def package_folders() -> list[Path]:
    """Folders of this project's packages that can be imported here."""
    found = (importlib.util.find_spec(name) for name in PACKAGES)
    return [Path(spec.origin).parent for spec in found if spec is not None and spec.origin]


def accelerators() -> int:
    """GPUs of the connected cluster."""
    return int(ray.cluster_resources().get("GPU", 0))

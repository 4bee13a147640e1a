"""A Ray cluster of its own with a job server, as users have it: in another process, with token authentication."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

# `Cluster` and not `ray.init`: there the port of the node's agent can be left open, where `ray.init` insists on 52365,
# which another Ray on this machine (the tests' own) may hold; without its agent a node takes no jobs.
HEAD = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 4, "include_dashboard": True, "dashboard_port": int(sys.argv[1]),
        "dashboard_agent_listen_port": 0, "object_store_memory": 300 * 1024**2}
cluster = Cluster(initialize_head=True, head_node_args=node)
print("ready", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@dataclass(frozen=True)
class JobCluster:
    """How to reach the cluster's job server."""

    address: str
    environment: dict[str, str]

    def submit(
        self, repository: Path, entrypoint: Sequence[str], env_vars: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """`ray job submit` with the repository as working directory; returns when the job has ended."""
        runtime_env = {"py_modules": [str(repository / "platform" / "portrait")], "env_vars": env_vars}
        command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", self.address]
        command += ["--working-dir", str(repository), "--runtime-env-json", json.dumps(runtime_env), "--"]
        return subprocess.run(
            [*command, *entrypoint],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )


@pytest.fixture(scope="module")
def job_cluster() -> Iterator[JobCluster]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment = {**os.environ, **token, "PATH": path}
    environment.pop("RAY_ADDRESS", None)
    # `Cluster` leaves its address in Ray's folder, where others would find it: it gets a folder of its own.
    folder = tempfile.mkdtemp(prefix="ray-")
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, str(port)],
        env={**environment, "RAY_TMPDIR": folder},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert head.stdin is not None
    assert head.stdout is not None
    try:
        assert head.stdout.readline().strip() == "ready", "the cluster did not start"
        yield JobCluster(address=f"http://127.0.0.1:{port}", environment=environment)
    finally:
        head.stdin.close()
        try:
            head.wait(timeout=60)
        except subprocess.TimeoutExpired:
            head.kill()
        shutil.rmtree(folder, ignore_errors=True)

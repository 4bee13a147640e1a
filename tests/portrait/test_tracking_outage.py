"""A real MLflow server that goes away and comes back: nothing raises, and nothing is lost."""

import contextlib
import logging
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from jobs.upload_tracking import UploadTracking
from jobs.upload_tracking import main as upload_tracking
from portrait import tracking, tracking_outage


class Server:
    """A real `mlflow server` behind a port that can be closed and opened: starting the server anew takes too long."""

    def __init__(self, folder: Path) -> None:
        self._backend = _free_port()
        self._port = _free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        command += ["--port", str(self._backend), "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._door: socketserver.ThreadingTCPServer | None = None

    def wait(self) -> None:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._backend}/health", timeout=1)
                return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"the MLflow server did not start: {self._log.read_text()[-2000:]}")

    def open(self) -> None:
        if self._door is None:
            self._door = _Door(("127.0.0.1", self._port), self._backend)
            threading.Thread(target=self._door.serve_forever, daemon=True).start()

    def shut(self) -> None:
        if self._door is not None:
            self._door.shutdown()
            self._door.server_close()
            self._door = None

    def kill(self) -> None:
        self.shut()
        os.killpg(self._process.pid, 9)
        self._process.wait()

    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)


class _Door(socketserver.ThreadingTCPServer):
    """Forwards connections to another port for as long as it is open; then cuts them."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], backend: int) -> None:
        self.backend = backend
        self.connections: list[socket.socket] = []
        super().__init__(address, _Forward)

    def server_close(self) -> None:
        super().server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Forward(socketserver.BaseRequestHandler):
    server: _Door

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.backend)) as backend:
            self.server.connections += [self.request, backend]
            back = threading.Thread(target=_pump, args=(backend, self.request), daemon=True)
            back.start()
            _pump(self.request, backend)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.wait()
        yield server
    finally:
        server.kill()


@pytest.fixture(autouse=True)
def _the_server_is_set(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking_outage.TRACKING_URI_VARIABLE, server.uri)
    monkeypatch.setattr(tracking_outage, "_stand_ins", {})
    server.open()


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_gets_everything_when_it_is_back(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracking.start_run("test", "outage", {"a": 1}, output=tmp_path)
    run.log_metrics({"loss": 3.0}, step=1)
    server.shut()
    with caplog.at_level(logging.WARNING):
        run.log_metrics({"loss": 2.0}, step=2)
        run.log_metrics({"loss": 1.0, "other": float("nan")}, step=3)
        run.log_image(np.zeros((4, 4, 3), np.uint8), "eval/picture.png")
    assert [record.message.count("cannot be reached") for record in caplog.records] == [1]
    server.open()
    run.finish()
    assert run.history("loss") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    stored = server.client().get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["not_finite.other"] == "3"
    assert stored.data.params == {"a": "1"}
    assert [file.path for file in server.client().list_artifacts(run.run_id, "eval")] == ["eval/picture.png"]
    assert tracking_outage.pending(tracking_outage.local_uri(tmp_path)) == []


@pytest.mark.slow
def test_a_server_that_is_away_from_beginning_to_end_gets_the_run_by_a_command(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    server.shut()
    with caplog.at_level(logging.WARNING):
        run = tracking.start_run("test", "away", {"b": 2}, output=tmp_path)
        run.log_metrics({"loss": 5.0}, step=7)
        run.finish(failed=True)
    assert "jobs.upload_tracking --output" in caplog.text
    assert run.history("loss") == [(7, 5.0)]  # viewable locally in the meantime
    with pytest.raises(ValueError, match="upload failed after 0 runs"):
        upload_tracking(UploadTracking(output=tmp_path))

    server.open()
    (uploaded,) = upload_tracking(UploadTracking(output=tmp_path))
    stored = server.client().get_run(uploaded)
    assert (stored.info.run_name, stored.info.status) == ("away", "FAILED")
    assert (stored.data.params, stored.data.metrics) == ({"b": "2"}, {"loss": 5.0})
    assert upload_tracking(UploadTracking(output=tmp_path)) == []
    assert "no run is waiting" in capsys.readouterr().out

    resumed = tracking.attach(run.run_id, run.uri, output=tmp_path)
    assert (resumed.run_id, resumed.uri) == (uploaded, server.uri)


@pytest.mark.slow
def test_another_process_logs_to_the_same_stand_in(server: Server, tmp_path: Path) -> None:
    run = tracking.start_run("test", "two processes", {}, output=tmp_path)
    server.shut()
    run.log_metrics({"loss": 1.0}, step=1)
    tracking_outage._stand_ins.clear()  # as in a worker that was restarted
    run.log_metrics({"loss": 0.5}, step=2)
    assert len(tracking_outage.pending(tracking_outage.local_uri(tmp_path))) == 1
    server.open()
    tracking.attach(run.run_id, run.uri, output=tmp_path).finish()
    assert run.history("loss") == [(1, 1.0), (2, 0.5)]


def test_a_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mlflow\.db: no tracking store"):
        upload_tracking(UploadTracking(output=tmp_path))

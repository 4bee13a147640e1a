"""One run at a time writes a table: a second one would take over the first one's work as that of a killed run.

In a folder, shared ones included, `filelock` holds `TABLE.runs/lock`; the system releases it when the process ends.
Object stores have no such locks, and some network file systems keep them to one machine. Therefore a run also writes
the time into its marker in the record of runs every minute, and counts as in progress while that is recent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pyarrow import fs

from data_prep.runs import Runs, Started
from data_prep.target import GROWN, cannot_write, open_filesystem, writing

HEARTBEAT_SECONDS = 60.0
"""How often a run says that it is alive."""
LOST_AFTER_SECONDS = 600.0
"""Silence after which a run on another machine counts as killed."""


class RunInProgress:
    """The run of this process."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.started = Started(
            run=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
            settings=runs.settings_digest,
            host=socket.gethostname(),
            pid=os.getpid(),
            seen=time.time(),
        )
        runs.start(self.started)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="run heartbeat", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """Id of the run: begins with its time in UTC."""
        return self.started.run

    def finish(self) -> None:
        """Ends the run after its commit.

        Raises:
            ValueError: its record cannot be written.
        """
        self._stop()
        with writing(self.runs.table_uri, GROWN):
            self.runs.finish(self.id)

    def close(self) -> None:
        """Ends the run where `finish` did not: what its tasks did stays for a later run."""
        self._stop()
        with contextlib.suppress(OSError):  # a full or read-only disk: the error that ended the run says so
            self.runs.end(self.started)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # a store that cannot be reached for a moment
                self.runs.start(replace(self.started, seen=time.time()))

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()


@contextmanager
def exclusive(runs: Runs) -> Iterator[RunInProgress]:
    """Starts a run that is the only one to write the table.

    Args:
        runs: the table's record of runs; the folder above the table must exist.

    Raises:
        ValueError: another run is writing the table, or its record cannot be written.
    """
    filesystem, root = open_filesystem(runs.uri)
    with writing(runs.table_uri):
        filesystem.create_dir(root, recursive=True)
    with _locked(runs, filesystem, root):
        for other in runs.active():
            if _is_alive(other, locked=isinstance(filesystem, fs.LocalFileSystem)):
                raise ValueError(
                    f"{_refusal(runs, other)}; if it was killed, wait {LOST_AFTER_SECONDS / 60:.0f} minutes or "
                    f"remove {runs.uri}/{other.run}"
                )
        with writing(runs.table_uri):
            run = RunInProgress(runs)
        try:
            yield run
        finally:
            run.close()


@contextmanager
def _locked(runs: Runs, filesystem: fs.FileSystem, root: str) -> Iterator[None]:
    """Holds the lock file, and removes it at the end, with the folder if that is empty."""
    if not isinstance(filesystem, fs.LocalFileSystem):
        yield
        return
    path = Path(root, "lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(_refusal(runs, next(iter(runs.active()), None))) from None
    except OSError as error:
        raise ValueError(cannot_write(runs.table_uri, error)) from error
    try:
        yield
    finally:
        with contextlib.suppress(
            OSError
        ):  # a process that opened it meanwhile finds it deleted, and opens a new one
            path.unlink()
        lock.release()
        with contextlib.suppress(OSError):
            Path(root).rmdir()


def _refusal(runs: Runs, other: Started | None) -> str:
    who = "" if other is None else f" (process {other.pid} on {other.host})"
    return f"{runs.table_uri}: another run{who} is writing this table; wait until it has finished"


def _is_alive(other: Started, *, locked: bool) -> bool:
    """Whether a run that has not finished may be in progress.

    Args:
        other: the run.
        locked: whether this process holds the table's lock, which no live process of this machine can hold then.
    """
    if other.ended or time.time() - other.seen > LOST_AFTER_SECONDS:
        return False
    if other.host != socket.gethostname():
        return True
    if locked or other.pid == os.getpid():
        return False
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

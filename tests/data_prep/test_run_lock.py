"""Two runs never write one table at a time; a run whose process is gone blocks no other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from data_prep import run_lock
from data_prep.run_lock import exclusive
from data_prep.runs import Runs, Started, task_lines


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(str(tmp_path / "clips.lance"))


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an object store, where there are no locks."""
    monkeypatch.setattr(run_lock.fs, "LocalFileSystem", type("Other", (), {}))


def left_by(runs: Runs, **changes) -> None:
    here = Started(run="other", settings="", host=socket.gethostname(), pid=os.getppid(), seen=time.time())
    runs.start(replace(here, **changes))


def test_a_second_run_learns_who_is_writing_and_the_first_leaves_nothing(runs, tmp_path):
    with exclusive(runs) as run:
        with (
            pytest.raises(
                ValueError, match=rf"another run \(process {os.getpid()} on .*\) is writing this table"
            ),
            exclusive(runs),
        ):
            pass
        # Refusing it has not taken the first one's lock away.
        assert sorted(path.name for path in Path(runs.uri).iterdir()) == [run.id, "lock"]
        with pytest.raises(ValueError, match="another run"), exclusive(runs):
            pass
    assert list(tmp_path.iterdir()) == []
    with exclusive(runs):
        pass


def test_an_error_within_frees_the_table(runs, tmp_path):
    with pytest.raises(RuntimeError), exclusive(runs):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_tasks_have_done_outlives_an_error(runs):
    def work() -> None:
        with exclusive(runs) as run:
            runs.write_task(run.id, "task", task_lines([], []))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert len(runs.unfinished()) == 1
    assert not Path(runs.uri, "lock").exists()
    with exclusive(runs) as run:
        run.runs.write_finished(run.started, [])
        run.finish()
    assert [path.name for path in Path(runs.uri).iterdir()] == [f"{run.id}.jsonl"]


def test_of_two_at_the_same_moment_one_gets_it(runs):
    together = Barrier(8)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            with exclusive(runs):
                time.sleep(0.5)
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_a_killed_process_holds_nothing(runs):
    code = (
        "import os; from data_prep.run_lock import exclusive; from data_prep.runs import Runs\n"
        f"with exclusive(Runs({runs.table_uri!r})): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert Path(runs.uri, "lock").exists()
    assert len(runs.active()) == 1
    with exclusive(runs):
        pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_record_tells_whether_a_process_lives(runs):
    with exclusive(runs):
        left_by(runs)
        with (
            pytest.raises(ValueError, match=rf"process {os.getppid()} on .*if it was killed, wait"),
            exclusive(runs),
        ):
            pass
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for changes in ({"pid": gone.pid}, {"pid": os.getpid()}, {"ended": True}):
        left_by(runs, **changes)
        with exclusive(runs):
            pass


@pytest.mark.parametrize("locks", [True, False])
def test_a_run_on_another_machine_counts_until_it_has_been_silent_for_long(
    runs, request: pytest.FixtureRequest, *, locks: bool
):
    if not locks:
        request.getfixturevalue("no_locks")
    left_by(runs, host="elsewhere")
    with pytest.raises(ValueError, match="on elsewhere"), exclusive(runs):
        pass
    left_by(runs, host="elsewhere", seen=time.time() - run_lock.LOST_AFTER_SECONDS - 1)
    with exclusive(runs):
        pass


def test_a_run_reports_that_it_is_alive_until_it_ends(runs, monkeypatch):
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.02)

    def wait_for(happened: Callable[[], bool]) -> None:
        for _ in range(500):
            if happened():
                return
            time.sleep(0.02)
        raise AssertionError("the marker was not written again")

    with exclusive(runs) as run:
        wait_for(lambda: runs.active()[0].seen > run.started.seen)
    time.sleep(0.1)
    assert not Path(runs.uri).exists()

"""Two runs never write one table at a time; a lock whose holder is dead is no lock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from data_prep import table_lock
from data_prep.table_lock import exclusive


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "clips.lance")


def left_by(uri: str, **changes) -> None:
    held = {"host": socket.gethostname(), "pid": os.getpid(), "id": "other", "time": time.time()}
    Path(f"{uri}.lock").write_text(json.dumps({**held, **changes}))


def test_a_second_run_is_told_who_is_at_it_and_the_first_leaves_nothing(uri, tmp_path):
    with exclusive(uri):
        with (
            pytest.raises(
                ValueError, match=rf"another run \(process {os.getpid()} on .*\) is writing this table"
            ),
            exclusive(uri),
        ):
            pass
        # Refusing it has not taken the first one's lock away.
        assert [path.name for path in tmp_path.iterdir()] == ["clips.lance.lock"]
    assert list(tmp_path.iterdir()) == []
    with exclusive(uri):
        pass


def test_an_error_within_frees_the_table(uri, tmp_path):
    with pytest.raises(RuntimeError), exclusive(uri):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_of_two_at_the_same_moment_one_gets_it(uri):
    together = Barrier(8)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            with exclusive(uri):
                time.sleep(0.5)
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_who_was_killed_holds_nothing(uri):
    code = f"import os; from data_prep.table_lock import exclusive\nwith exclusive({uri!r}): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert Path(f"{uri}.lock").exists()
    with exclusive(uri):
        pass


def test_another_machines_run_is_believed_until_it_is_silent_for_long(uri):
    left_by(uri, host="elsewhere")
    with pytest.raises(ValueError, match="on elsewhere"), exclusive(uri):
        pass
    left_by(uri, host="elsewhere", time=time.time() - table_lock.DEAD_AFTER_SECONDS - 1)
    with exclusive(uri):
        pass


def test_a_lock_that_is_no_json_holds_for_as_long(uri):
    lock = Path(f"{uri}.lock")
    lock.write_text("")
    with pytest.raises(ValueError, match="an unknown machine"), exclusive(uri):
        pass
    os.utime(lock, (0, 0))
    with exclusive(uri):
        pass


def test_the_holder_says_again_and_again_that_it_lives(uri, monkeypatch):
    monkeypatch.setattr(table_lock, "BEAT_SECONDS", 0.02)
    with exclusive(uri):
        first = json.loads(Path(f"{uri}.lock").read_text())["time"]
        for _ in range(500):
            if json.loads(Path(f"{uri}.lock").read_text())["time"] > first:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the lock was not written anew")

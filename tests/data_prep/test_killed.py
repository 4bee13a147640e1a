"""kill -9 of the driver and all that it started, again and again: the next run resumes, nothing is doubled or lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.sources.folder import FolderSource
from data_prep.splits import Splits
from portrait.storage.clips import ClipTable, write_clips

SETTINGS = CutSettings(size=64)
FILES = 24

# A Ray of its own, so that the workers die with their driver in the middle of a file.
DRIVER = """
import sys
from pathlib import Path
import ray
import data_prep.hashing
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.sources.folder import FolderSource
from data_prep.splits import Splits

# The files hold the same packets of a few films on purpose.
data_prep.hashing.merge_copies = lambda hashed, *_: list(hashed)
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 1024**2)
prepare(FolderSource(folder=Path(sys.argv[1])), sys.argv[2], CutSettings(size=64), Splits())
"""


@pytest.fixture
def many(heads, tmp_path) -> Path:
    """Files of five people; a few bytes that players pass over make each content a new one."""
    folder = tmp_path / "many"
    for number in range(FILES):
        person = number % len(heads)
        free = (8 + number).to_bytes(4, "big") + b"free" + bytes(number)
        (folder / f"person {person}").mkdir(parents=True, exist_ok=True)
        (folder / f"person {person}" / f"{number}.mp4").write_bytes(heads[person].read_bytes() + free)
    return folder


def records(uri: Path) -> int:
    """Number of tasks on record as done."""
    return sum('"written"' in path.read_text() for path in record_of(uri).glob("*/*.jsonl"))


def record_of(uri: Path) -> Path:
    return uri.with_name(f"{uri.name}.runs")


def kill_with_all_it_started(driver: subprocess.Popen[str]) -> int:
    """Kills every process of the driver's session (Ray gives its workers process groups of their own).

    Returns:
        The driver's return code.
    """
    # Stopped first, so that it cannot come to its end while its processes are looked up.
    driver.send_signal(signal.SIGSTOP)
    for process in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process) == driver.pid:
                os.kill(process, signal.SIGKILL)
    return driver.wait()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks up processes in /proc")
@pytest.mark.timeout(1200)
def test_killed_again_and_again(many, tmp_path, ray_session, monkeypatch):
    monkeypatch.setattr("data_prep.hashing.merge_copies", lambda hashed, *_: list(hashed))
    uri = tmp_path / "clips.lance"
    rng = np.random.default_rng(3)
    for more in (0, 1, 3):
        wanted = records(uri) + more
        command = [sys.executable, "-c", DRIVER, str(many), str(uri)]
        driver = subprocess.Popen(command, text=True, start_new_session=True)
        # From the first byte of a fragment on, at any moment.
        while driver.poll() is None and (records(uri) < wanted or not (uri / "data").exists()):
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.1)))
        assert driver.poll() is None, "it came to its end before it could be killed"
        assert kill_with_all_it_started(driver) == -signal.SIGKILL
        with pytest.raises(FileNotFoundError):
            ClipTable.open(str(uri))
    done = records(uri)
    assert done

    report = prepare(FolderSource(folder=many), str(uri), SETTINGS, Splits())
    assert report.known >= done
    fresh = tmp_path / "fresh.lance"
    prepare(FolderSource(folder=many), str(fresh), SETTINGS, Splits())
    ids, expected = (
        sorted((row["clip_id"], row["split"]) for row in ClipTable.open(str(table)).rows())
        for table in (uri, fresh)
    )
    assert ids == expected
    assert len({clip_id for clip_id, _ in ids}) == FILES
    # What the killed runs wrote is part of the table or gone.
    assert len(list((uri / "data").glob("*.lance"))) == len(ClipTable.open(str(uri)).dataset.get_fragments())
    assert [path.suffix for path in record_of(uri).iterdir()] == [".jsonl"]


def test_what_a_killed_task_wrote_without_a_record_is_removed(footage, tmp_path, ray_session):
    folder, uri = footage(2), str(tmp_path / "clips.lance")
    film, _ = FolderSource(folder=folder).files()
    rows, _ = cut_file(film, film.content_hash(), "train", SETTINGS)
    write_clips(uri, rows)
    assert list(Path(uri, "data").rglob("*.*"))

    report = prepare(FolderSource(folder=folder), uri, SETTINGS, Splits())
    assert (report.known, report.table_rows) == (0, 2)
    written = list(Path(uri, "data").rglob("*.*"))
    assert len(written) == len(ClipTable.open(uri).dataset.get_fragments())

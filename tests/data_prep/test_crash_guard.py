"""A file on which workers crash is rejected after two crashes, and the others are cut."""

from __future__ import annotations

import json
import subprocess
import sys

from data_prep.crash_guard import CrashGuard
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.runs import Runs
from data_prep.sources.folder import FolderSource
from data_prep.splits import Splits
from portrait.storage.clips import ClipTable

# Without Ray: one attempt of a task. A signal is how a crash inside FFmpeg ends a worker.
ATTEMPT = """
import dataclasses, os, signal, sys
from pathlib import Path
import pyarrow as pa
from data_prep import cut
from data_prep.cut_settings import CutSettings
from data_prep.sources.folder import FolderSource

cut_file = cut.cut_file

def deadly(footage, *rest):
    if Path(footage.path).name == "bob.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    return cut_file(footage, *rest)

cut.cut_file = deadly
uri, settings = sys.argv[2], CutSettings(size=64)
files = [dataclasses.asdict(file) for file in FolderSource(folder=Path(sys.argv[1])).files()]
table = pa.Table.from_pylist([{**file, "content": file["path"], "split": "train", "fixed": False} for file in files])
print(cut._cut_shard(table, uri=uri, settings=settings, run="r"))
"""


def test_after_two_crashes_a_file_is_rejected_and_the_others_are_cut(footage, tmp_path):
    folder, uri = footage(3), str(tmp_path / "clips.lance")
    command = [sys.executable, "-c", ATTEMPT, str(folder), uri]
    for _ in range(2):
        assert subprocess.run(command, check=False, capture_output=True).returncode == -11
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "'files': [3], 'clips': [2], 'rejects': [1], 'error': ['']" in done.stdout
    (task,) = Runs(uri, CutSettings(size=64).digest()).tasks("r")
    assert [len(file.clips) for file in task.files] == [1, 0, 1]
    (reject,) = task.files[1].rejects
    assert reject.path.endswith("bob.mp4")
    assert reject.reason.startswith("a worker crashed on this file twice")
    assert task.crashes == (reject.path,) * 2
    assert not task.files[1].settled


def test_files_that_an_attempt_had_passed_are_not_to_blame(tmp_path):
    runs = Runs(str(tmp_path / "clips.lance"))
    for _ in range(5):
        attempt = CrashGuard(runs, "run", "task")
        assert attempt.begin("before")
        attempt.begin("deadly")
    attempt = CrashGuard(runs, "run", "task")
    assert attempt.begin("before")
    assert not attempt.begin("deadly")
    assert attempt.begin("after")
    assert attempt.lines() == [{"event": "crashed", "content": "deadly"}] * 5
    # Neither another task nor another run has anything to do with it.
    assert CrashGuard(runs, "run", "other task").begin("deadly")
    assert CrashGuard(runs, "other run", "task").begin("deadly")


def test_an_attempt_that_ended_by_itself_is_no_crash(tmp_path):
    runs = Runs(str(tmp_path / "clips.lance"))
    for _ in range(5):
        assert CrashGuard(runs, "run", "task").begin("away")
        runs.remove_task("run", "task")
    assert CrashGuard(runs, "run", "task").lines() == []


def test_a_whole_run_rejects_the_deadly_file(footage, tmp_path, ray_session, monkeypatch):
    """With Ray: its workers crash and are started again."""
    import cloudpickle

    from data_prep import cut

    def deadly(footage_, *rest):
        import os
        import signal

        from data_prep.cut_file import cut_file

        if footage_.path.endswith("bob.mp4"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return cut_file(footage_, *rest)

    def patched(batch, **options):
        from data_prep import cut as there

        there.cut_file = deadly  # a worker has a module of its own
        return there._cut_shard(batch, **options)

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(cut, "_cut_shard", patched)
    uri = str(tmp_path / "clips.lance")
    report = prepare(FolderSource(folder=footage(3)), uri, CutSettings(size=64), Splits())
    assert [reject.path.rpartition("/")[2] for reject in report.rejects] == ["bob.mp4"]
    (path,) = (tmp_path / "clips.lance.runs").iterdir()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "rejected", "crashed", "crashed", "committed"]
    assert ClipTable.open(uri).num_rows == 2
    fragments = ClipTable.open(uri).dataset.get_fragments()
    assert len(list((tmp_path / "clips.lance" / "data").glob("*.lance"))) == len(fragments)

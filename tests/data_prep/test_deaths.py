"""A file that kills whoever cuts it becomes a reject after two deaths, and the others are cut."""

from __future__ import annotations

import subprocess
import sys

from data_prep.cut_settings import CutSettings
from data_prep.deaths import Watch
from data_prep.ledger import Ledger
from data_prep.pipeline import prepare
from data_prep.sources import FolderSource
from data_prep.splits import Splits
from portrait.storage.clips import ClipTable

# Without Ray: one attempt of a task. A signal is how a crash inside FFmpeg ends a worker.
ATTEMPT = """
import dataclasses, os, signal, sys
from pathlib import Path
import pyarrow as pa
from data_prep import pipeline
from data_prep.cut_settings import CutSettings
from data_prep.ledger import Ledger
from data_prep.sources import FolderSource

cut_file = pipeline.cut_file

def deadly(footage, *rest):
    if Path(footage.path).name == "bob.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    return cut_file(footage, *rest)

pipeline.cut_file = deadly
uri, settings = sys.argv[2], CutSettings(size=64)
files = [dataclasses.asdict(file) for file in FolderSource(folder=Path(sys.argv[1])).files()]
table = pa.Table.from_pylist([{**file, "content": file["path"], "split": "train", "fixed": False} for file in files])
print(pipeline._cut_shard(table, uri=uri, settings=settings, ledger=Ledger(uri, settings.digest()), run="r"))
"""


def test_after_two_deaths_a_file_is_left_out_and_the_others_are_cut(footage, tmp_path):
    folder, uri = footage(3), str(tmp_path / "clips.lance")
    command = [sys.executable, "-c", ATTEMPT, str(folder), uri]
    for _ in range(2):
        assert subprocess.run(command, check=False, capture_output=True).returncode == -11
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "'files': [3], 'clips': [2], 'rejects': [1], 'error': ['']" in done.stdout
    (record,) = Ledger(uri, CutSettings(size=64).digest()).records()
    (reject,) = record.rejects
    assert reject.path.endswith("bob.mp4")
    assert reject.reason.startswith("whoever cut it died, 2 times")
    assert record.died
    assert record.again == (reject.path,)
    assert not list((tmp_path / "clips.lance.ingest" / "watch").iterdir())


def test_files_that_an_attempt_had_passed_are_not_to_blame(tmp_path):
    folder = str(tmp_path / "watch")
    for _ in range(5):
        attempt = Watch(folder, "task")
        assert attempt.begin("before")
        attempt.begin("deadly")
    attempt = Watch(folder, "task")
    assert attempt.begin("before")
    assert not attempt.begin("deadly")
    assert attempt.begin("after")
    assert attempt.end()
    # An attempt that ends of its own leaves nothing to remember.
    assert Watch(folder, "task").begin("deadly")
    assert not Watch(folder, "other task").end()


def test_a_whole_run_leaves_out_the_deadly_file(footage, tmp_path, ray_session, monkeypatch):
    """With Ray: its workers die, and are started again."""
    import cloudpickle

    from data_prep import pipeline

    def deadly(footage_, *rest):
        import os
        import signal

        from data_prep.cutting import cut_file

        if footage_.path.endswith("bob.mp4"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return cut_file(footage_, *rest)

    def patched(batch, **options):
        from data_prep import pipeline as there

        there.cut_file = deadly  # a worker has a module of its own
        return there._cut_shard(batch, **options)

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(pipeline, "_cut_shard", patched)
    uri = str(tmp_path / "clips.lance")
    report = prepare(FolderSource(folder=footage(3)), uri, CutSettings(size=64), Splits())
    assert [reject.path.rpartition("/")[2] for reject in report.rejects] == ["bob.mp4"]
    assert ClipTable.open(uri).num_rows == 2
    fragments = ClipTable.open(uri).dataset.get_fragments()
    assert len(list((tmp_path / "clips.lance" / "data").glob("*.lance"))) == len(fragments)

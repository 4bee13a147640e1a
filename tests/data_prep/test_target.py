"""Full disks and places that cannot be written: one clear error, the table as before, and a later run finishes.

A small file system of its own is filled to the last byte; mounting one takes rights that not everybody has, so that
some of the errors are also had in ways that always work.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_prep import commit, cut
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.run_lock import RunInProgress
from data_prep.runs import Runs
from data_prep.sources.folder import FolderSource
from data_prep.splits import Splits
from data_prep.target import check_writable
from portrait.storage.clips import ClipTable

SETTINGS = CutSettings(size=64)
DISK_BYTES = 24 * 1024**2
BALLAST = "ballast"


def run(folder: Path, uri: Path):
    return prepare(FolderSource(folder=folder), str(uri), SETTINGS, Splits())


def state(uri: Path) -> tuple[int, list[dict[str, Any]]] | None:
    """Version and rows; None where there is no table."""
    try:
        table = ClipTable.open(str(uri))
    except FileNotFoundError:
        return None
    return table.version, table.rows(("clip_id", "identity", "split", "provenance"))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """An empty file system in memory, gone after the test."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True, text=True)
    except (subprocess.CalledProcessError, FileNotFoundError, PermissionError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', '') or error}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path, left: int = 0) -> None:
    """Writes to a disk until it is full, but for so many bytes."""
    with (disk / BALLAST).open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        file.truncate(file.tell() - left)


def check_finished(folder: Path, uri: Path, fresh: Path, finished: int) -> None:
    """A run with room gives what a run that met no trouble gives, and leaves nothing of the failed one."""
    report = run(folder, uri)
    assert report.table_rows == 5
    run(folder, fresh)
    ids, expected = (
        sorted(row["clip_id"] for row in ClipTable.open(str(table)).rows()) for table in (uri, fresh)
    )
    assert ids == expected
    assert len(set(ids)) == len(ids) == 5
    # What the failed run wrote is part of the table or gone.
    fragments = ClipTable.open(str(uri)).dataset.get_fragments()
    assert len(list((uri / "data").glob("*.lance"))) == len(fragments)
    record = uri.with_name(f"{uri.name}.runs")
    assert {path.name for path in uri.parent.iterdir()} - {BALLAST} == {uri.name, record.name}
    # One file for each run that has finished, and nothing of the one that failed.
    versions = [path.name for path in record.iterdir()]
    assert all(name.endswith(".jsonl") for name in versions)
    assert len(versions) == finished + 1
    assert Path(report.rejects_path).name in versions


@contextmanager
def full(disk: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk without room from a moment on: a step of the driver by its name, or from the beginning."""
    if moment == "before any work":
        fill(disk)
    elif moment == "fragments":
        fill(disk, left=48 * 1024)
    else:
        step: Callable[..., Any] = getattr(commit, moment)

        def fill_and_go_on(*args: Any, **kwargs: Any) -> Any:
            fill(disk)
            return step(*args, **kwargs)

        monkeypatch.setattr(commit, moment, fill_and_go_on)
    yield
    monkeypatch.undo()
    (disk / BALLAST).unlink()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("moment", ["before any work", "fragments", "_write_record", "_commit"])
@pytest.mark.parametrize("first", [0, 1], ids=["new table", "table that grows"])
def test_a_disk_that_is_full(footage, small_disk, tmp_path, monkeypatch, *, moment, first):
    uri = small_disk / "clips.lance"
    if first:
        run(footage(first), uri)
    before = state(uri)
    folder = footage(5)
    (folder / "text.mp4").write_text("no video")
    place = (
        rf"{re.escape(str(uri))}\.runs/[^ /]*\.jsonl" if moment == "_write_record" else re.escape(str(uri))
    )
    words = (
        rf"{place} cannot be written: No space left on device.*; free some space and run the command again"
    )
    with full(small_disk, moment, monkeypatch), pytest.raises(ValueError, match=words) as error:
        run(folder, uri)
    assert str(error.value).endswith("(the table is unchanged)")
    assert state(uri) == before
    check_finished(folder, uri, tmp_path / "fresh.lance", finished=first)


@pytest.mark.usefixtures("ray_session")
def test_a_disk_that_goes_read_only(footage, small_disk, tmp_path):
    uri = small_disk / "clips.lance"
    run(footage(1), uri)
    before = state(uri)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ValueError, match=r"cannot be written: Read-only file system.*choose another place"):
        run(footage(5), uri)
    assert state(uri) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    check_finished(footage(5), uri, tmp_path / "fresh.lance", finished=1)


FULL = Path("/dev/full")


@pytest.mark.usefixtures("ray_session")
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_list_of_rejects_that_cannot_be_written_leaves_the_table_alone(footage, tmp_path, monkeypatch):
    uri = tmp_path / "out" / "clips.lance"
    run(footage(2), uri)
    before = state(uri)
    (tmp_path / "footage" / "text.mp4").write_text("no video")
    write_record = commit._write_record

    def write_to_full_disk(run: RunInProgress, *args: Any) -> None:
        # The list is written under this name first; whatever goes there meets a full disk.
        Path(f"{run.runs.finished_path(run.id)}.part").symlink_to(FULL)
        write_record(run, *args)

    monkeypatch.setattr(commit, "_write_record", write_to_full_disk)
    with pytest.raises(ValueError, match=r"runs/[^ ]*\.jsonl cannot be written: No space left on device"):
        run(footage(5), uri)
    monkeypatch.undo()
    assert state(uri) == before
    assert FULL.is_char_device()
    check_finished(footage(5), uri, tmp_path / "fresh.lance", finished=1)


# Without Ray: the limit on a file's size would hit Ray's own files too.
LIMITED = """
import dataclasses, resource, sys
from pathlib import Path
import pyarrow as pa
from data_prep import cut
from data_prep.cut_settings import CutSettings
from data_prep.runs import Runs
from data_prep.sources.folder import FolderSource

folder, uri, settings = Path(sys.argv[1]), sys.argv[2], CutSettings(size=64)
files = [dataclasses.asdict(file) for file in FolderSource(folder=folder).files()]
table = pa.Table.from_pylist([{**file, "content": file["path"], "split": "train", "fixed": False} for file in files])
for limit in (20_000, resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    outcome = cut._cut_shard(table, uri=uri, settings=settings, run="r")
    print(outcome["error"][0] or "done", len(Runs(uri, settings.digest()).tasks("r")), flush=True)
"""


def test_a_task_whose_files_grow_too_large_tells_so_and_counts_for_nothing(footage, tmp_path):
    uri = tmp_path / "clips.lance"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(footage(2)), str(uri)], capture_output=True, text=True, check=True
    )
    failed, finished = done.stdout.strip().splitlines()
    assert failed.startswith(f"{uri} cannot be written: File too large; fix this or choose another place")
    assert failed.endswith("(the table is unchanged) 0")
    assert finished == "done 1"


def test_a_record_that_cannot_be_written_is_told_like_anything_else(footage, tmp_path, monkeypatch):
    write_task = Runs.write_task

    def no_room(self: Runs, run: str, name: str, lines: Any) -> None:
        if lines[-1]["event"] != "written":
            write_task(self, run, name, lines)
            return
        raise OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC), f"{tmp_path}/clips.lance.runs/r/task.jsonl.part"
        )

    monkeypatch.setattr(Runs, "write_task", no_room)
    (file,) = FolderSource(folder=footage(1)).files()
    block = pa.Table.from_pylist(
        [{**dataclasses.asdict(file), "content": "c", "split": "train", "fixed": False}]
    )
    uri = str(tmp_path / "clips.lance")
    outcome = cut._cut_shard(block, uri=uri, settings=SETTINGS, run="r")
    assert outcome["clips"] == [0]
    assert "No space left on device at" in outcome["error"][0]
    assert "task.jsonl.part; free some space" in outcome["error"][0]


def test_places_where_nothing_can_be_written_are_found_out_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"below/clips\.lance cannot be written: Not a directory at .*file"):
        check_writable(str(tmp_path / "file" / "below" / "clips.lance"))
    with pytest.raises(ValueError, match="file is a file; expected a folder"):
        check_writable(str(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    # Not even root may make a file in Linux's view of its processes.
    if Path("/proc/self").exists():
        with pytest.raises(
            ValueError, match=r"^/proc/clips\.lance cannot be written: .*choose another place"
        ):
            check_writable("/proc/clips.lance")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_of_someone_else_is_found_out_before_any_work(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="cannot be written: Permission denied"):
        check_writable(str(tmp_path / "theirs" / "clips.lance"))


def test_trying_a_place_leaves_nothing_there(tmp_path):
    check_writable(str(tmp_path / "new" / "clips.lance"))
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["new"]

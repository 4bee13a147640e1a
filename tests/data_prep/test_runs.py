"""The record of runs: what counts of it when a run has finished, was killed, or gave up."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from data_prep.rejects import Reject
from data_prep.runs import ClipSummary, CutFile, Runs, Started, Task, rejected_line, task_lines, task_name


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(str(tmp_path / "clips.lance"), "settings")


def cut(content: str, *, clips: int = 0, **reject) -> CutFile:
    """A file that gave so many clips and one reject, with a name that editors and `str.splitlines` break into lines."""
    summary = ClipSummary(clip_id="c", identity="ann", split="train", seconds=1.5)
    name = "ü\u2028.mp4"
    rejected = Reject(path=name, reason="no face found", start_s=0.0, end_s=10.0, **reject)
    return CutFile(content=content, clips=(summary,) * clips, rejects=(rejected,))


def start(runs: Runs, run: str, settings: str = "settings") -> Started:
    started = Started(run=run, settings=settings, host="here", pid=1, seen=time.time())
    runs.start(started)
    return started


def add(runs: Runs, run: str, *files: CutFile, crashed: tuple[str, ...] = ()) -> Task:
    crashes = [{"event": "crashed", "content": content} for content in crashed]
    name = task_name(run, [file.content for file in files])
    runs.write_task(run, name, [*crashes, *task_lines(files, [])])
    return Task(run=run, files=files, fragments=(), crashes=crashed)


def test_a_table_without_a_record_has_no_runs(runs, tmp_path):
    assert (runs.active(), runs.unfinished(), runs.rejected()) == ([], [], set())
    assert list(tmp_path.iterdir()) == []


def test_tasks_of_an_unfinished_run_come_back_for_its_settings_only(runs):
    start(runs, "run1")
    tasks = [add(runs, "run1", cut("x", clips=1), cut("y"), crashed=("x",)), add(runs, "run1", cut("z"))]
    assert sorted(runs.unfinished(), key=lambda task: len(task.files), reverse=True) == tasks
    assert Runs(runs.table_uri, "others").unfinished() == []
    assert [started.run for started in Runs(runs.table_uri, "others").active()] == ["run1"]


def test_a_repeated_task_replaces_its_record(runs):
    start(runs, "run1")
    add(runs, "run1", cut("x"))
    assert runs.unfinished() == [add(runs, "run1", cut("x"))]
    start(runs, "run2")
    add(runs, "run2", cut("x"))
    assert len(runs.unfinished()) == 2


def test_a_task_that_was_not_done_or_half_written_does_not_count(runs):
    start(runs, "run1")
    task = add(runs, "run1", cut("x"))
    runs.write_task("run1", "other", [{"event": "began", "content": "y"}])
    Path(runs.uri, "run1", "third.jsonl.part").write_text('{"event": "cu')
    assert runs.unfinished() == [task]


def test_a_task_whose_fragments_are_gone_does_not_count(runs):
    start(runs, "run1")
    fragment = json.dumps({"files": [{"path": "gone.lance"}]})
    runs.write_task("run1", "task", task_lines([cut("x", clips=1)], [fragment]))
    assert runs.unfinished() == []
    data = Path(runs.table_uri, "data")
    data.mkdir(parents=True)
    (data / "gone.lance").touch()
    assert [task.fragments for task in runs.unfinished()] == [(fragment,)]


def test_a_finished_run_leaves_one_file_and_its_rejects_are_known(runs):
    started = start(runs, "run1")
    files = [cut("none"), cut("some", clips=2), cut("unreadable", retry=True)]
    add(runs, "run1", *files)
    runs.write_finished(started, [rejected_line(file.rejects[0], file) for file in files])
    # Not before it is finished: its tasks count until then.
    assert runs.rejected() == set()
    assert len(runs.unfinished()) == 1
    runs.finish("run1")
    assert [path.name for path in Path(runs.uri).iterdir()] == ["run1.jsonl"]
    assert runs.rejected() == {"none"}
    assert Runs(runs.table_uri, "others").rejected() == set()
    assert runs.unfinished() == []


def test_a_finished_run_ends_those_whose_work_it_took_over(runs):
    killed = start(runs, "run1")
    add(runs, "run1", cut("x"))
    runs.write_finished(killed, [])
    started = start(runs, "run2")
    runs.write_finished(started, [])
    runs.finish("run2")
    assert [path.name for path in Path(runs.uri).iterdir()] == ["run2.jsonl"]


def test_a_run_that_gave_up_keeps_its_tasks_and_without_any_leaves_nothing(runs):
    started = start(runs, "run1")
    runs.end(started)
    assert list(Path(runs.uri).iterdir()) == []
    start(runs, "run1")
    add(runs, "run1", cut("x"))
    runs.end(started)
    (ended,) = runs.active()
    assert ended.ended
    assert len(runs.unfinished()) == 1


@pytest.mark.parametrize("text", ["", '{"event": "started", "ru'])
def test_a_damaged_record_is_an_error_that_names_the_file(runs, text):
    start(runs, "run1")
    Path(runs.uri, "run1", "run.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"run1/run\.jsonl: .*; remove the file"):
        runs.active()

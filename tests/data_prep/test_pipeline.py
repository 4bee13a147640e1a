import hashlib
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pytest
import ray

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.plan import make_plan
from data_prep.sources import open_source
from data_prep.sources.folder import FolderSource
from data_prep.sources.hdtf import HDTFSource
from data_prep.splits import Splits
from portrait.media.mp4 import write_mp4
from portrait.media.video import read_video
from portrait.storage.clips import ClipTable

pytestmark = pytest.mark.usefixtures("ray_session")

SETTINGS = CutSettings(size=64)


def run(folder, uri, settings=SETTINGS):
    return prepare(FolderSource(folder=folder), str(uri), settings, Splits())


def ids(uri):
    return sorted(row["clip_id"] for row in ClipTable.open(str(uri)).rows())


def test_rejects_are_counted_listed_and_do_not_stop_the_run(footage, tmp_path):
    folder, uri = footage(3), tmp_path / "out" / "clips.lance"
    (folder / "text.mp4").write_text("no video")
    (folder / "cut off.mp4").write_bytes((folder / "ann.mp4").read_bytes()[:5000])
    write_mp4(folder / "blank.mp4", np.full((40, 96, 96, 3), 90, np.uint8), np.zeros(40 * 640, np.float32))
    shutil.copy(folder / "ann.mp4", folder / "copy of ann.mp4")
    report = run(folder, uri)

    table = ClipTable.open(str(uri))
    rows = table.rows(("identity", "split", "provenance"))
    assert sorted(row["identity"] for row in rows) == ["ann", "bob", "cem"]
    assert "train" in {row["split"] for row in rows}
    for row, (video, audio) in zip(rows, table.read_media(range(3)), strict=True):
        assert video[4:8] == b"ftyp"
        assert audio[:4] == b"fLaC"
        stored = Path(row["provenance"]["path"]).read_bytes()
        assert row["provenance"]["content"] == hashlib.sha256(stored).hexdigest()
    assert (report.files, len(report.clips), len(report.duplicates), report.table_rows) == (7, 3, 1, 3)
    assert {Path(reject.path).name for reject in report.rejects} == {
        "text.mp4",
        "cut off.mp4",
        "blank.mp4",
    }
    lines = [json.loads(line) for line in Path(report.rejects_path).read_text().splitlines()]
    (repeated,) = report.duplicates
    pair = (repeated.path, repeated.reason.removeprefix("duplicate of "))
    assert {Path(path).name for path in pair} == {"ann.mp4", "copy of ann.mp4"}
    rejects = (*report.rejects, repeated)
    rejected = [line["path"] for line in lines if line["event"] == "rejected"]
    assert rejected == [reject.path for reject in rejects]
    assert lines[0]["event"] == "started"
    assert lines[-1] == {"event": "committed", "files": 7, "known": 0, "clips": 3}
    for reject in rejects:
        assert f"  {reject}" in report.text()
    assert "added 3 clips of 3 identities" in report.text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clips.lance",
        "clips.lance.runs",
    ]
    assert Path(report.rejects_path).parent == tmp_path / "out" / "clips.lance.runs"


def test_again_adds_nothing_and_growth_only_what_is_new(footage, tmp_path):
    uri = tmp_path / "clips.lance"
    run(footage(2), uri)
    before = {row["clip_id"]: row for row in ClipTable.open(str(uri)).rows()}
    version = ClipTable.open(str(uri)).version

    again = run(footage(2), uri)
    assert (again.known, len(again.clips)) == (2, 0)
    assert ClipTable.open(str(uri)).version == version

    grown = run(footage(5), uri)
    assert (grown.known, len(grown.clips)) == (2, 3)
    after = {row["clip_id"]: row for row in ClipTable.open(str(uri)).rows()}
    assert len(after) == 5
    assert {clip_id: after[clip_id] for clip_id in before} == before


def test_what_gave_no_clip_is_not_cut_again_but_what_could_not_be_read_is(footage, tmp_path, monkeypatch):
    folder, uri = footage(2), tmp_path / "clips.lance"
    (folder / "cem.mp4").write_bytes(b"no video at all")
    assert [reject.path.rpartition("/")[2] for reject in run(folder, uri).rejects] == ["cem.mp4"]
    plan = make_plan(FolderSource(folder=folder), str(uri), SETTINGS, Splits())
    assert (plan.known, plan.todo) == (3, ())
    again = run(folder, uri)
    assert (again.known, again.rejects, again.table_rows) == (3, (), 2)
    # Removing the record makes the next run try it again.
    shutil.rmtree(tmp_path / "clips.lance.runs")
    assert len(run(folder, uri).rejects) == 1
    # What is only out of reach for the moment is no matter of its content.
    monkeypatch.setattr(
        "data_prep.sources.footage.Footage.media", lambda _: (_ for _ in ()).throw(OSError("away"))
    )
    footage_ = FolderSource(folder=folder).files()[0]
    rows, (reject,) = cut_file(footage_, "c", "train", SETTINGS)
    assert (rows, reject.retry, reject.reason) == ([], True, "away")


def test_a_table_of_another_size_is_refused(footage, tmp_path):
    uri = tmp_path / "clips.lance"
    run(footage(1), uri)
    with pytest.raises(
        ValueError, match="holds clips cut with size=64, but this run has size=32: use another table"
    ):
        run(footage(1), uri, replace(SETTINGS, size=32))


def test_a_table_that_was_cut_with_settings_yet_unknown_is_refused_by_name(footage, tmp_path):
    uri = tmp_path / "clips.lance"
    run(footage(1), uri)
    dataset = lance.dataset(str(uri))
    stored = json.loads(dataset.schema.metadata[b"cut_settings"])
    for later, name in (
        ({"denoise": True}, "denoise=True"),
        ({"audio": {"gain": 2}}, r"audio=\{'gain': 2\}"),
    ):
        text = json.dumps({**stored, **later})
        dataset.replace_schema_metadata({"cut_settings": text})
        with pytest.raises(ValueError, match=f"clips cut with {name}, but this run has .*=None"):
            run(footage(1), uri)


def test_nothing_ingested_is_an_error_and_leaves_nothing(tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.mp4").write_text("no video")
    with pytest.raises(
        ValueError, match=r"none of the 1 files gave a clip: .*text\.mp4: not a readable video"
    ):
        run(folder, tmp_path / "clips.lance")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_when_only_held_out_people_are_left_one_of_them_trains(footage, tmp_path):
    folder, uri = footage(3), tmp_path / "clips.lance"
    by_split = {clip.split: clip.identity for clip in run(folder, uri).clips}
    # The same people, but the footage of those in the training split cannot be read.
    (folder / f"{by_split['train']}.mp4").write_text("no video")
    run(folder, tmp_path / "second.lance")
    rows = ClipTable.open(str(tmp_path / "second.lance")).rows()
    assert "train" in {row["split"] for row in rows}
    assert len({row["clip_id"] for row in rows}) == len(rows) == 2


def test_an_unwritable_table_is_a_clear_error(footage, tmp_path):
    (tmp_path / "clips.lance").mkdir()
    (tmp_path / "clips.lance" / "data").write_text("a file where Lance wants its folder")
    with pytest.raises(ValueError, match=r"clips\.lance cannot be written: .*the table is unchanged"):
        run(footage(1), tmp_path / "clips.lance")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; expected a folder"):
        run(footage(1), tmp_path / "file")


# The driver kills itself: after the first file is done, with all work done but before the commit, and right after it.
KILLED_DRIVER = """
import os, signal, sys
from pathlib import Path
import ray
from data_prep import commit, cut
from data_prep.cut_settings import CutSettings
from data_prep.pipeline import prepare
from data_prep.sources.folder import FolderSource
from data_prep.splits import Splits

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

address, folder, uri, moment = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
if moment == "first file":
    advance = cut.ProgressLine.advance
    def advance_and_die(self, *args, **kwargs):
        advance(self, *args, **kwargs)
        if self._label == "cutting clips":
            die()
    cut.ProgressLine.advance = advance_and_die
elif moment == "before commit":
    commit._commit = die
else:
    commit._keep_someone_for_training = die
prepare(FolderSource(folder=Path(folder)), uri, CutSettings(size=64), Splits())
"""


@pytest.mark.parametrize("moment", ["first file", "before commit", "after commit"])
def test_a_killed_run_goes_on_without_duplicates_or_loss(footage, tmp_path, moment):
    folder, uri = footage(5), tmp_path / "clips.lance"
    address = ray.get_runtime_context().gcs_address
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_DRIVER, address, str(folder), str(uri), moment],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    if moment == "after commit":
        assert len(ids(uri)) == 5
    else:
        with pytest.raises(FileNotFoundError):
            ClipTable.open(str(uri))

    resumed = run(folder, uri)
    assert resumed.known >= 1
    if moment != "first file":
        assert resumed.known == 5

    fresh = tmp_path / "fresh.lance"
    run(folder, fresh)
    assert ids(uri) == ids(fresh)
    assert len(set(ids(uri))) == 5
    splits = [
        {row["identity"]: row["split"] for row in ClipTable.open(str(table)).rows()} for table in (uri, fresh)
    ]
    assert splits[0] == splits[1]
    assert [path.suffix for path in (tmp_path / "clips.lance.runs").iterdir()] == [".jsonl"]


def test_a_collections_own_split_is_kept(footage, tmp_path):
    folder, uri = footage(3), tmp_path / "clips.lance"
    (folder / "people.csv").write_text(
        "path,identity,split\nann.mp4,ann,test\nbob.mp4,bob,val\ncem.mp4,cem,test\n"
    )
    source = open_source(str(folder), render_folder=tmp_path, identities=folder / "people.csv")
    prepare(source, str(uri), SETTINGS, Splits(val=0, test=0))
    rows = ClipTable.open(str(uri)).rows(("identity", "split"))
    # No one is left to train on, and no one is moved: a table of test people alone is a benchmark.
    kept = {"ann": "test", "bob": "val", "cem": "test"}
    assert {row["identity"]: row["split"] for row in rows} == kept
    # The same footage without the list knows no splits; the table does.
    (folder / "people.csv").unlink()
    run(folder, uri)
    assert {row["identity"]: row["split"] for row in ClipTable.open(str(uri)).rows()} == kept


def test_who_was_trained_on_does_not_become_a_test(footage, tmp_path):
    folder, uri = footage(1), tmp_path / "clips.lance"
    run(folder, uri)
    (folder / "people.csv").write_text("path,identity,split\nann.mp4,ann,test\n")
    source = open_source(str(folder), render_folder=tmp_path, identities=folder / "people.csv")
    with pytest.raises(ValueError, match="ann is in split train of the table, but the source says test"):
        prepare(source, str(uri), SETTINGS, Splits())


def test_a_folder_of_other_things_is_not_made_a_table(footage, tmp_path):
    with pytest.raises(ValueError, match="choose another folder for the table"):
        run(footage(1), tmp_path / "footage")
    assert (tmp_path / "footage" / "ann.mp4").exists()


def test_a_survey_says_what_a_run_does_and_writes_nothing(footage, tmp_path):
    folder, uri = footage(2), tmp_path / "out" / "clips.lance"
    run(folder, uri)
    folder = footage(4)
    shutil.copy(folder / "dora.mp4", folder / "dora again.mp4")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    plan = make_plan(FolderSource(folder=folder), str(uri), SETTINGS, Splits())
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert (plan.files, plan.known, len(plan.duplicates)) == (5, 2, 1)
    assert "2 already known, 1 duplicates, 0 unreadable, 2 to cut" in plan.text()
    assert plan.new == {"cem", "dora again"}  # the copy comes first

    report = run(folder, uri)
    assert (report.files, report.known, report.duplicates) == (plan.files, plan.known, plan.duplicates)
    rows = ClipTable.open(str(uri)).rows(("identity", "split"))
    assert {row["identity"]: row["split"] for row in rows} == plan.splits


def test_a_survey_of_a_new_table_makes_no_folder(footage, tmp_path):
    make_plan(FolderSource(folder=footage(1)), str(tmp_path / "new" / "clips.lance"), SETTINGS, Splits())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("network", ["detector", "syncnet"])
def test_a_network_that_is_not_there_ends_the_run_before_it_begins(footage, tmp_path, network):
    settings = replace(SETTINGS, **{network: str(tmp_path / "network.bin")})
    with pytest.raises(FileNotFoundError, match=r"network\.bin: no such file"):
        prepare(FolderSource(folder=footage()), str(tmp_path / "out" / "clips.lance"), settings, Splits())
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_and_regions_of_files_travel_to_the_tasks(heads, tmp_path):
    uri = tmp_path / "clips.lance"
    left, right = read_video(heads[0]), read_video(heads[1])
    assert left.audio is not None
    frames = np.concatenate([left.frames, right.frames], axis=2)
    frames = np.concatenate([frames, frames[::-1]])
    write_mp4(tmp_path / "Radio1.mp4", frames, np.tile(left.audio, 2)[: len(frames) * 640])
    (tmp_path / "RD_annotion_time.txt").write_text("Radio1.mp4 00:00-00:01 00:01-00:02\n")
    (tmp_path / "RD_crop_wh.txt").write_text("Radio1_0.mp4 192 192 0 192\n")
    settings = replace(SETTINGS, min_clip_seconds=0.8)
    source = HDTFSource(folder=tmp_path)
    report = prepare(source, str(uri), settings, Splits())
    assert [(r.start_s, r.reason) for r in report.rejects] == [(1.0, "other_faces 1, expected at most 0.2")]
    (row,) = ClipTable.open(str(uri)).rows(("crop_box", "provenance", "source"))
    assert row["source"] == "hdtf"
    assert (row["provenance"]["start_s"], row["provenance"]["end_s"]) == (0.0, 1.0)
    assert row["crop_box"][0] > 100, "the person on the right"
    again = prepare(source, str(uri), settings, Splits())
    assert (again.known, len(again.clips), again.table_rows) == (2, 0, 1)


def test_a_table_of_an_earlier_version_grows(footage, tmp_path):
    uri = tmp_path / "clips.lance"
    run(footage(1), uri)
    lance.dataset(str(uri)).drop_columns(["brightness", "other_faces"])
    report = run(footage(2), uri)
    assert (report.known, report.table_rows) == (1, 2)
    rows = ClipTable.open(str(uri)).rows(("identity", "other_faces"))
    assert {row["identity"]: row["other_faces"] for row in rows} == {"ann": None, "bob": 0.0}

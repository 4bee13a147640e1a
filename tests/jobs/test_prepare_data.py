import dataclasses
import re

import pytest

from data_prep.filters import Filters
from data_prep.report import Report
from jobs import command_line
from jobs.prepare_data import PrepareData, main
from portrait.storage.clips import ClipTable


def test_synthetic_heads_become_a_table(tmp_path, ray_session, capsys):
    main(PrepareData(source="synthetic:3x1x1.2", output=tmp_path))
    rows = ClipTable.open(str(tmp_path / "clips.lance")).rows(
        ("identity", "split", "height", "source", "num_frames")
    )
    assert {row["identity"] for row in rows} == {f"synthetic-{i:05d}" for i in range(3)}
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert {(row["height"], row["source"], row["num_frames"]) for row in rows} == {(128, "synthetic", 29)}
    printed = capsys.readouterr().out
    assert "added 3 clips of 3 identities" in printed
    assert f"clips table: {tmp_path / 'clips.lance'} (version 1, 3 clips)" in printed

    report = (tmp_path / "clips.lance.report.html").read_text()
    assert report.count("<figure>") == 3
    assert "synthetic-00002 · " in report
    assert "added 3 clips of 3 identities" in report
    assert "Not measured: sync_confidence, sync_offset" in report


def test_the_report_says_what_was_left_out(tmp_path, ray_session):
    strict = PrepareData(
        source="synthetic:3x1x1.2",
        output=tmp_path,
        clips=str(tmp_path / "strict.lance"),
        filters=Filters(min_face_size=9999),
    )
    with pytest.raises(ValueError, match=r"face_size [0-9.]+, expected at least 9999"):
        main(strict)
    assert not (tmp_path / "strict.lance.report.html").exists()
    footage = next((tmp_path / "synthetic").rglob("*.mp4")).parent.parent
    (footage / "<b>bad.mp4").write_text("no video")
    done = main(dataclasses.replace(strict, source=str(footage), filters=Filters(min_motion=0.01)))
    assert isinstance(done, Report)
    page = (tmp_path / "strict.lance.report.html").read_text()
    assert "&lt;b&gt;bad.mp4" in page
    assert "<b>bad" not in page


def test_a_dry_run_leaves_no_table(tmp_path, ray_session, capsys):
    main(PrepareData(source="synthetic:3x1x1.2", output=tmp_path, dry_run=True))
    assert "3 to cut" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--source", "nowhere"], "no footage at nowhere"),
        (["--source", "synthetic:1x1"], "must read synthetic:IDENTITIESxCLIPSxSECONDS"),
        (["--source", ".", "--preset", "huge"], "unknown preset 'huge'"),
        (["--source", ".", "--splits.val", "1.5"], r"splits.val must be in \[0, 1\)"),
        (["--source", ".", "--colour", "red"], "colour"),
    ],
)
@pytest.mark.usefixtures("ray_session")
def test_a_users_mistake_is_one_line_and_exit_code_2(args, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command_line.run(main, PrepareData, args)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(error.strip().splitlines()) == 1
    assert re.search(message, error)


def test_a_folder_of_damaged_files_ends_with_exit_code_2(tmp_path, ray_session, capsys):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "text.mp4").write_text("no video")
    with pytest.raises(SystemExit) as stop:
        command_line.run(main, PrepareData, ["--source", str(folder), "--output", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "error: none of the 1 files gave a clip" in capsys.readouterr().err
    assert list((tmp_path / "run").iterdir()) == []

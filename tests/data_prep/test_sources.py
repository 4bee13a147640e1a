from pathlib import Path

import pytest

from data_prep.sources import FolderSource, SyntheticSource, open_source


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_all_videos_of_a_folder_however_deep(tmp_path):
    touch(
        tmp_path,
        "b.MOV",
        "id1/v1/1.mp4",
        "id1/v2/2.mkv",
        "id2/ünï cöde.mpg",
        "notes.txt",
        ".hidden.mp4",
        ".x/y.mp4",
    )
    files = FolderSource(folder=tmp_path, licence="CC0").files()
    assert [(Path(file.path).name, file.identity) for file in files] == [
        ("b.MOV", "b"),
        ("1.mp4", "id1"),
        ("2.mkv", "id1"),
        ("ünï cöde.mpg", "id2"),
    ]
    assert {(file.source, file.licence) for file in files} == {(tmp_path.name, "CC0")}


def test_identity_from_a_pattern(tmp_path):
    touch(tmp_path, "woman_a_1.mp4", "woman_a_2.mp4", "man_b.mp4")
    for pattern in ("^([a-z]+_[a-z])", "(?P<identity>^[a-z]+_[a-z])(_[0-9])?"):
        files = FolderSource(folder=tmp_path, identity_pattern=pattern).files()
        assert [file.identity for file in files] == ["man_b", "woman_a", "woman_a"]


def test_a_single_file(tmp_path):
    touch(tmp_path, "me.mp4", "other.mp4")
    (file,) = FolderSource(folder=tmp_path / "me.mp4").files()
    assert (file.path, file.identity) == (str(tmp_path / "me.mp4"), "me")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is no regular expression"),
        ("^x", "needs a group"),
        ("^(id[0-9]+)", r"finds no one in 'me\.mp4'"),
    ],
)
def test_patterns_that_cannot_work(tmp_path, pattern, message):
    touch(tmp_path, "me.mp4")
    with pytest.raises(ValueError, match=message):
        FolderSource(folder=tmp_path, identity_pattern=pattern).files()


def test_no_folder_and_no_videos(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no footage at .*nowhere"):
        FolderSource(folder=tmp_path / "nowhere").files()
    with pytest.raises(ValueError, match="holds no video file"):
        FolderSource(folder=tmp_path).files()


def test_synthetic_text_is_parsed(tmp_path):
    source = open_source("synthetic:8x3x2.5@100", render_folder=tmp_path)
    assert isinstance(source, SyntheticSource)
    assert (source.identities, source.clips_per_identity, source.seconds, source.first_identity) == (
        8,
        3,
        2.5,
        100,
    )


@pytest.mark.parametrize(
    "text", ["synthetic:", "synthetic:3x2", "synthetic:axbxc", "synthetic:0x1x1", "synthetic:1x1x1x1"]
)
def test_other_synthetic_text_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"synthetic:|above 0"):
        open_source(text, render_folder=tmp_path)


def test_synthetic_heads_are_rendered_once(tmp_path, ray_session):
    source = open_source("synthetic:2x1x1@7", render_folder=tmp_path)
    files = source.files()
    assert [file.identity for file in files] == ["synthetic-00007", "synthetic-00008"]
    written = {file.path: Path(file.path).stat().st_mtime_ns for file in files}
    assert open_source("synthetic:2x1x1@7", render_folder=tmp_path).files() == files
    assert {file.path: Path(file.path).stat().st_mtime_ns for file in files} == written

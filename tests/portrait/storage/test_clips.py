from typing import Any

import lance
import pyarrow as pa
import pytest

from portrait.storage import fragments
from portrait.storage.clips import (
    CLIPS_SCHEMA,
    LATER_COLUMNS,
    RENAMED_COLUMNS,
    ClipTable,
    commit_clips,
    upgrade_columns,
    write_clips,
)


def test_rows_and_media_come_back_as_written(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    rows = [clip_row("a"), clip_row("b", num_frames=9, video=b"\x00" * 200_000), clip_row("c", split="val")]
    commit_clips(uri, write_clips(uri, rows))
    table = ClipTable.open(uri)
    columns = [name for name in CLIPS_SCHEMA.names if name not in ("video", "audio")]
    assert table.num_rows == 3
    assert table.rows(columns) == [{name: row[name] for name in columns} for row in rows]
    # The order asked for, with a repetition, across inline and packed blobs.
    assert table.read_media([2, 1, 1, 0]) == [(rows[i]["video"], rows[i]["audio"]) for i in (2, 1, 1, 0)]


def test_media_are_the_same_however_the_table_is_addressed(tmp_path, clip_row):
    rows = [clip_row("a"), clip_row("b", video=b"\x07" * 200_000)]
    commit_clips(str(tmp_path / "clips.lance"), write_clips(str(tmp_path / "clips.lance"), rows))
    media = [(row["video"], row["audio"]) for row in rows]
    for uri in (f"file://{tmp_path}/clips.lance", str(tmp_path / "clips.lance")):
        assert ClipTable.open(uri).read_media([0, 1]) == media
        assert ClipTable.open(uri).read_media([]) == []


def test_media_of_any_size_are_read_past_deleted_rows(tmp_path, clip_row):
    # Inline, packed and in files of their own, as Lance stores them by size.
    videos = [b"", b"small", b"\x01" * 200_000, b"\x02" * 5_000_000, b"\x03" * 70_000]
    uri = str(tmp_path / "clips.lance")
    commit_clips(uri, write_clips(uri, [clip_row(str(i), video=video) for i, video in enumerate(videos)]))
    lance.dataset(uri).delete("clip_id = '1'")
    assert ClipTable.open(uri).read_video([3, 0, 2, 1]) == [videos[i] for i in (4, 0, 3, 2)]


def test_a_missing_file_of_media_is_an_error(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    table = commit_clips(uri, write_clips(uri, [clip_row("a", video=b"\x07" * 200_000)]))
    for path in (tmp_path / "clips.lance" / "data").rglob("*.blob"):
        path.unlink()
    with pytest.raises(Exception, match=r"(?i)not found"):
        table.read_video([0])


def test_fragments_are_invisible_before_the_commit(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    first = write_clips(uri, [clip_row("a")])
    with pytest.raises(FileNotFoundError, match=r"no clips table at .*clips\.lance"):
        ClipTable.open(uri)
    commit_clips(uri, first)
    second = write_clips(uri, [clip_row("b")])
    assert ClipTable.open(uri).num_rows == 1
    commit_clips(uri, second)
    assert [row["clip_id"] for row in ClipTable.open(uri).rows()] == ["a", "b"]


def test_a_damaged_table_is_not_taken_for_none(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    commit_clips(uri, write_clips(uri, [clip_row("a")]))
    (manifest,) = (tmp_path / "clips.lance" / "_versions").glob("*.manifest")
    content = manifest.read_bytes()
    manifest.write_bytes(b"")
    for what in (
        lambda: fragments.exists(uri),
        lambda: ClipTable.open(uri),
        lambda: commit_clips(uri, write_clips(uri, [clip_row("b")])),
    ):
        with pytest.raises(ValueError, match=r"clips\.lance: the table cannot be opened, it is damaged"):
            what()
    manifest.write_bytes(content)
    assert [row["clip_id"] for row in ClipTable.open(uri).rows()] == ["a"]


def test_a_store_that_is_not_reached_is_not_taken_for_an_empty_one(monkeypatch):
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",  # the port that discards
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "OBJECT_STORE_CLIENT_MAX_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match=r"s3://bucket/clips\.lance: the table cannot be opened, .*HTTP error"
    ):
        fragments.exists("s3://bucket/clips.lance")


def test_an_older_version_stays_as_it_was(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    version = commit_clips(uri, write_clips(uri, [clip_row("a")])).version
    commit_clips(uri, write_clips(uri, [clip_row("b")]))
    assert ClipTable.open(uri, version).num_rows == 1
    with pytest.raises(FileNotFoundError, match="in version 99"):
        ClipTable.open(uri, 99)


def test_another_table_is_refused(tmp_path):
    uri = str(tmp_path / "other.lance")
    lance.write_dataset(pa.table({"x": [1]}), uri)
    with pytest.raises(ValueError, match="is not a clips table: column 'clip_id' is missing"):
        ClipTable.open(uri)


def test_media_are_not_read_as_columns(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    table = commit_clips(uri, write_clips(uri, [clip_row("a")]))
    with pytest.raises(ValueError, match="column 'video' cannot be read here"):
        table.rows(["video"])


def test_remove_unreferenced_deletes_only_what_no_version_holds(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    table = commit_clips(uri, write_clips(uri, [clip_row("a", video=b"\x01" * 100_000)]))
    table = commit_clips(uri, write_clips(uri, [clip_row("b")]))
    held = {path for path in (tmp_path / "clips.lance" / "data").rglob("*") if path.is_file()}
    write_clips(uri, [clip_row("never committed", video=b"\x02" * 100_000)])
    fragments.remove_unreferenced(table.dataset)
    left = {path for path in (tmp_path / "clips.lance" / "data").rglob("*") if path.is_file()}
    assert left == held
    assert ClipTable.open(uri, 1).read_video([0]) == [b"\x01" * 100_000]


def test_a_table_of_an_earlier_version_is_read_and_grows(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    commit_clips(uri, write_clips(uri, [clip_row("a")]))
    lance.dataset(uri).drop_columns(list(LATER_COLUMNS))
    old = ClipTable.open(uri)
    assert old.rows(("clip_id", "other_faces")) == [{"clip_id": "a", "other_faces": None}]
    assert old.rows(("other_faces",)) == [{"other_faces": None}]
    upgrade_columns(uri)
    table = commit_clips(uri, write_clips(uri, [clip_row("b", other_faces=0.25)]))
    assert table.rows(("clip_id", "other_faces", "split")) == [
        {"clip_id": "a", "other_faces": None, "split": "train"},
        {"clip_id": "b", "other_faces": 0.25, "split": "train"},
    ]
    assert table.read_video([0, 1]) == [b"video of a", b"video of b"]
    version = table.version
    upgrade_columns(uri)
    assert ClipTable.open(uri).version == version


def test_renamed_columns_are_read_and_the_table_grows(tmp_path, clip_row):
    uri = str(tmp_path / "clips.lance")
    commit_clips(uri, write_clips(uri, [clip_row("a", other_faces=0.5)]))
    alterations: list[Any] = [{"path": new, "name": old} for old, new in RENAMED_COLUMNS.items()]
    lance.dataset(uri).alter_columns(*alterations)
    assert ClipTable.open(uri).rows(("other_faces", "clip_id")) == [{"other_faces": 0.5, "clip_id": "a"}]
    upgrade_columns(uri)
    table = commit_clips(uri, write_clips(uri, [clip_row("b", other_faces=0.25)]))
    assert [row["other_faces"] for row in table.rows(("other_faces",))] == [0.5, 0.25]
    assert not set(RENAMED_COLUMNS) & set(table.dataset.schema.names)

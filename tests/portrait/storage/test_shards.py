"""Clips as WebDataset shards: there and back without loss, and nothing half-written."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from portrait.storage import fragments
from portrait.storage.clips import CLIPS_SCHEMA, ClipTable, write_clips
from portrait.storage.shards import export_shards, import_shards, row_of

COLUMNS = [name for name in CLIPS_SCHEMA.names if name not in ("video", "audio")]


def row(number: int) -> dict:
    return {
        "clip_id": f"clip{number:03d}",
        "source": "a collection",
        "identity": f"person «{number % 3}»",
        "split": ("train", "val", "test")[number % 3],
        "video": bytes([number]) * (100 + number),
        "audio": b"fLaC" + bytes(number),
        "num_frames": 5 + 4 * number,
        "fps": 25.0,
        "height": 64,
        "width": 64,
        "crop_box": [0.1, 2.0, 3.5],
        "face_boxes": [[1.0, 2.0, 3.0, 1 / 3]] * 5,
        "sharpness": 0.1 * number,
        "motion": 1e-7,
        "face_size": 40.0,
        "face_found": 1.0,
        "speech_ratio": None,
        "sync_confidence": None,
        "sync_offset": None,
        "brightness": None,
        "other_faces": 0.0,
        "provenance": {
            "path": "/x y/ü.mp4",
            "content": "abc",
            "start_s": 0.04,
            "end_s": 1 / 3,
            "licence": None,
        },
    }


@pytest.fixture
def table(tmp_path: Path) -> ClipTable:
    uri = str(tmp_path / "clips.lance")
    written = write_clips(uri, (row(number) for number in range(40)))
    schema = CLIPS_SCHEMA.with_metadata({"cut_settings": '{"size": 64}'})
    return ClipTable(fragments.commit(uri, schema, written))


def content(table: ClipTable) -> dict:
    media = table.read_media(range(table.num_rows))
    return {r["clip_id"]: (r, m) for r, m in zip(table.rows(COLUMNS), media, strict=True)}


def test_there_and_back_is_the_same_table(table: ClipTable, tmp_path: Path) -> None:
    seen: list[int] = []
    assert export_shards(table, tmp_path / "shards", shard_bytes=30_000, progress=seen.append) == 40
    assert seen[-1] == 40
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 1
    done = import_shards(tmp_path / "shards", str(tmp_path / "back.lance"))
    assert (done.added, done.known) == (40, 0)
    assert content(done.table) == content(table)
    assert done.table.dataset.schema.metadata == table.dataset.schema.metadata


def test_other_tools_can_read_the_shards(table: ClipTable, tmp_path: Path) -> None:
    """Plain tar, without WebDataset: three files a clip, one after another."""
    export_shards(table, tmp_path / "shards")
    (shard,) = (tmp_path / "shards").glob("*.tar")
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
        assert len(members) == 120
        stems = [member.name.split(".")[0] for member in members]
        assert all(len({*stems[i : i + 3]}) == 1 for i in range(0, 120, 3))
        by_name = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert by_name["clip007.mp4"] == row(7)["video"]
    assert by_name["clip007.flac"] == row(7)["audio"]
    assert json.loads(by_name["clip007.json"])["provenance"] == row(7)["provenance"]


def test_only_the_wanted_splits(table: ClipTable, tmp_path: Path) -> None:
    export_shards(table, tmp_path / "shards", splits=("val",))
    back = import_shards(tmp_path / "shards", str(tmp_path / "back.lance")).table
    assert {r["split"] for r in back.rows(("split",))} == {"val"}
    with pytest.raises(ValueError, match="no clip to export"):
        export_shards(table, tmp_path / "none", splits=("holiday",))
    assert not (tmp_path / "none").exists()


def test_importing_again_adds_nothing(table: ClipTable, tmp_path: Path) -> None:
    export_shards(table, tmp_path / "shards", splits=("val", "test"))
    again = import_shards(tmp_path / "shards", table.dataset.uri)
    assert (again.added, again.known, again.table.num_rows) == (0, 26, 40)
    assert again.table.version == table.version


def test_braces_and_shards_without_an_index(table: ClipTable, tmp_path: Path) -> None:
    export_shards(table, tmp_path / "shards", shard_bytes=30_000)
    names = sorted(path.name for path in (tmp_path / "shards").glob("*.tar"))
    pattern = f"{tmp_path}/shards/clips-{{000000..{len(names) - 1:06d}}}.tar"
    assert import_shards(pattern, str(tmp_path / "back.lance")).added == 40


@pytest.mark.parametrize("harm", ["cut", "gone", "foreign", "fewer"])
def test_damage_is_named_and_the_table_stays_as_it_was(table: ClipTable, tmp_path: Path, harm: str) -> None:
    shards = tmp_path / "shards"
    export_shards(table, shards, shard_bytes=30_000)
    last = sorted(shards.glob("*.tar"))[-1]
    if harm == "cut":
        last.write_bytes(last.read_bytes()[:700])
    elif harm == "gone":
        last.unlink()
    elif harm == "foreign":
        with tarfile.open(last, "w") as tar:
            (tmp_path / "a.txt").write_text("no clip")
            tar.add(tmp_path / "a.txt", "a.txt")
    else:
        index = json.loads((shards / "index.json").read_text())
        (shards / "index.json").write_text(json.dumps(index | {"clips": 41}))
    for uri in (tmp_path / "new.lance", tmp_path / "clips.lance"):
        with pytest.raises(ValueError, match=r"missing|no \.json|41|clip|archive|data"):
            import_shards(shards, str(uri))
    assert not (tmp_path / "new.lance").exists()
    assert content(ClipTable.open(str(tmp_path / "clips.lance"))) == content(table)


def test_a_byte_that_changed_on_the_way_is_noticed(table: ClipTable, tmp_path: Path) -> None:
    export_shards(table, tmp_path / "shards")
    (shard,) = (tmp_path / "shards").glob("*.tar")
    damaged = bytearray(shard.read_bytes())
    with tarfile.open(shard) as tar:
        video = next(member for member in tar if member.name.endswith(".mp4"))
    damaged[video.offset_data + video.size // 2] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"nothing was imported: .*the content does not match the checksum"):
        import_shards(tmp_path / "shards", str(tmp_path / "back.lance"))
    assert not (tmp_path / "back.lance").exists()


def test_a_folder_that_is_no_table_keeps_what_it_holds(table: ClipTable, tmp_path: Path) -> None:
    export_shards(table, tmp_path / "shards")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious.txt").write_text("keep me")
    for target in (tmp_path / "home", tmp_path / "shards"):
        with pytest.raises(ValueError, match="choose another folder for the table"):
            import_shards(tmp_path / "shards", str(target))
    assert (tmp_path / "home" / "precious.txt").read_text() == "keep me"
    assert not (tmp_path / "shards" / "_versions").exists()


def test_a_failed_import_leaves_what_another_run_has_not_committed_yet(
    table: ClipTable, tmp_path: Path
) -> None:
    uri = table.dataset.uri
    pending = write_clips(uri, [row(100)])
    export_shards(table, tmp_path / "shards", shard_bytes=30_000)
    last = sorted((tmp_path / "shards").glob("*.tar"))[-1]
    last.write_bytes(last.read_bytes()[:700])
    with pytest.raises(ValueError, match="nothing was imported"):
        import_shards(tmp_path / "shards", uri)
    grown = ClipTable(fragments.commit(uri, CLIPS_SCHEMA, pending))
    assert grown.read_video([40]) == [row(100)["video"]]


def test_what_does_not_go_together_is_not_mixed(table: ClipTable, tmp_path: Path) -> None:
    export_shards(table, tmp_path / "shards")
    other = str(tmp_path / "other.lance")
    schema = CLIPS_SCHEMA.with_metadata({"cut_settings": '{"size": 128}'})
    fragments.commit(other, schema, write_clips(other, [row(100)]))
    with pytest.raises(ValueError, match="other cut_settings"):
        import_shards(tmp_path / "shards", other)
    moved = str(tmp_path / "moved.lance")
    fragments.commit(
        moved, CLIPS_SCHEMA, write_clips(moved, [row(100) | {"identity": "person «0»", "split": "test"}])
    )
    with pytest.raises(
        ValueError, match="person «0»' is in split train in the shards, but in test elsewhere"
    ):
        import_shards(tmp_path / "shards", moved)
    assert ClipTable.open(moved).num_rows == 1


def test_a_full_folder_and_missing_shards_are_refused(table: ClipTable, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="new folder"):
        export_shards(table, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep me"
    for nothing in (tmp_path / "nowhere", tmp_path / "full"):
        with pytest.raises(FileNotFoundError, match="shards"):
            import_shards(nothing, str(tmp_path / "new.lance"))


def test_samples_of_earlier_versions_are_read() -> None:
    old = row(0)
    media = {"mp4": old.pop("video"), "flac": old.pop("audio")}
    old["rivals"] = old.pop("other_faces")
    assert row_of({"__key__": "clip000", "json": json.dumps(old).encode(), **media}) == row(0)

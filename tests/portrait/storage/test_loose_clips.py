"""Loose files are the table's clips, and say what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portrait.storage.clips import ClipTable, commit_clips, write_clips
from portrait.storage.loose_clips import LooseClips, export_loose


@pytest.fixture
def table(tmp_path: Path, clip_row: Callable[..., dict[str, Any]]) -> ClipTable:
    uri = str(tmp_path / "clips.lance")
    return commit_clips(uri, write_clips(uri, [clip_row(name) for name in ("b", "a", "c")]))


def test_rows_and_media_are_the_tables(table: ClipTable, tmp_path: Path) -> None:
    written: list[int] = []
    assert export_loose(table, tmp_path / "loose", progress=written.append) == 3
    found = LooseClips.open(tmp_path / "loose")
    columns = ("clip_id", "split", "num_frames", "provenance")
    assert written == [1, 2, 3]
    assert found.num_rows == 3
    assert found.rows(columns) == table.rows(columns)
    assert found.read_media([2, 0, 2]) == table.read_media([2, 0, 2])
    assert LooseClips.open(tmp_path / "loose").version == found.version


def test_what_is_missing_or_in_the_way_is_named(table: ClipTable, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no clips\.json"):
        LooseClips.open(tmp_path)
    export_loose(table, tmp_path / "loose")
    with pytest.raises(FileExistsError, match="holds something already"):
        export_loose(table, tmp_path / "loose")
    with pytest.raises(ValueError, match="column 'sharpness' cannot be read here"):
        LooseClips.open(tmp_path / "loose").rows(("sharpness",))
    (tmp_path / "loose" / "a.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.flac is missing"):
        LooseClips.open(tmp_path / "loose")

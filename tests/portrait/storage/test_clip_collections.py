"""Shards and table are the same clips to every reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from portrait.media.mp4 import encode_video
from portrait.storage.clip_collections import open_clips
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.clips import ClipTable, commit_clips, write_clips
from portrait.storage.epoch_sampler import Draw
from portrait.storage.sharded_clips import ShardedClips
from portrait.storage.shards import export_shards


@pytest.fixture
def clips_uri(tmp_path: Path, clip_row: Callable[..., dict[str, Any]]) -> str:
    """Five clips of 25 frames that brighten at speeds of their own."""
    ramp = np.arange(25, dtype=np.uint8)[:, None, None, None]
    rows = [
        clip_row(
            f"clip{number}",
            num_frames=25,
            identity=f"person {number}",
            video=encode_video(np.broadcast_to(ramp * (number + 4), (25, 32, 32, 3)).copy(), gop=16),
        )
        for number in range(5)
    ]
    uri = str(tmp_path / "clips.lance")
    commit_clips(uri, write_clips(uri, rows))
    return uri


@pytest.fixture
def shards(clips_uri: str, tmp_path: Path) -> Path:
    export_shards(ClipTable.open(clips_uri), tmp_path / "shards", shard_bytes=4_000)
    return tmp_path / "shards"


def test_rows_and_media_are_the_tables(clips_uri: str, shards: Path) -> None:
    table, found = ClipTable.open(clips_uri), open_clips(str(shards))
    assert isinstance(found, ShardedClips)
    assert isinstance(open_clips(clips_uri), ClipTable)
    columns = ("clip_id", "identity", "split", "num_frames", "provenance")
    place = {row["clip_id"]: index for index, row in enumerate(table.rows())}
    rows = found.rows(columns)
    indices = [place[row["clip_id"]] for row in rows]
    assert sorted(indices) == list(range(table.num_rows))
    assert rows == [table.rows(columns)[index] for index in indices]
    assert found.read_media(range(found.num_rows)) == table.read_media(indices)
    assert found.read_audio([1]) == table.read_audio([indices[1]])


def test_a_window_is_the_same_whatever_it_is_read_from(clips_uri: str, shards: Path) -> None:
    a, b = (ClipWindows(uri, 32, 5, seed=3, split=None) for uri in (clips_uri, str(shards)))
    assert len(a) == len(b)
    assert a.clip_ids == b.clip_ids
    for draw in (Draw(epoch, row) for epoch in range(2) for row in range(5)):
        one, two = a[draw], b[draw]
        assert one["start"] == two["start"]
        assert torch.equal(one["video"], two["video"])
        assert torch.equal(one["references"], two["references"])


def test_a_resumed_run_sees_the_same_shards_or_is_told(shards: Path) -> None:
    version = open_clips(str(shards)).version
    assert open_clips(str(shards), version).num_rows > 0
    with pytest.raises(FileNotFoundError, match="expected version 7"):
        open_clips(str(shards), 7)


def test_as_many_other_clips_are_another_version(
    tmp_path: Path, clip_row: Callable[..., dict[str, Any]]
) -> None:
    versions = set()
    for name in ("one", "two"):
        uri = str(tmp_path / f"{name}.lance")
        commit_clips(uri, write_clips(uri, [clip_row(name)]))
        export_shards(ClipTable.open(uri), tmp_path / name)
        versions.add(open_clips(str(tmp_path / name)).version)
    assert len(versions) == 2


@pytest.mark.parametrize("harm", ["cut", "gone", "fewer"])
def test_damage_is_named(shards: Path, harm: str) -> None:
    last = sorted(shards.glob("*.tar"))[-1]
    if harm == "cut":
        last.write_bytes(last.read_bytes()[:3_000])
    elif harm == "gone":
        last.unlink()
    else:
        index = json.loads((shards / "index.json").read_text())
        (shards / "index.json").write_text(json.dumps(index | {"clips": 1}))
    with pytest.raises(ValueError, match=r"damaged|missing|no \.|expected 1 clips"):
        open_clips(str(shards))

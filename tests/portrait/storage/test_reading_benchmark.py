"""All stores give the same windows, bit for bit, and the table has a row for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from portrait.media.audio import decode_flac
from portrait.media.random_access import decode_window
from portrait.storage import reading_benchmark
from portrait.storage.clips import ClipTable
from portrait.storage.epoch_sampler import Draw
from portrait.storage.reading_benchmark import (
    LANCE,
    LOOSE,
    SHARDS,
    STREAM,
    WindowSettings,
    compare,
    markdown,
    open_stores,
    same_windows,
)

SETTINGS = WindowSettings(size=64, num_frames=9, max_references=2, batch_size=3)
DRAWS = [Draw(epoch, row) for epoch in range(2) for row in (2, 0, 3, 1)]


@pytest.fixture
def stores(micro_clips: str, tmp_path: Path):
    return open_stores(micro_clips, tmp_path, SETTINGS)


def test_the_three_stores_give_the_same_windows_bit_for_bit(stores) -> None:
    opened = {name: stores[name]() for name in (LANCE, SHARDS, LOOSE)}
    items = [store.read(DRAWS) for store in opened.values()]
    assert same_windows(opened, DRAWS)
    for one, two, three in zip(*items, strict=True):
        assert one["clip_id"] == two["clip_id"] == three["clip_id"]
        for name in ("video", "references", "audio"):
            assert torch.equal(one[name], two[name])
            assert torch.equal(one[name], three[name])
    assert not torch.equal(items[0][0]["video"], items[0][1]["video"])


def test_a_window_is_what_its_clip_holds_there(stores, micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    media = dict(
        zip((row["clip_id"] for row in table.rows()), table.read_media(range(table.num_rows)), strict=True)
    )
    for name in (LOOSE, STREAM):
        for item in stores[name]().read(DRAWS):
            video, audio = media[item["clip_id"]]
            start, references = item["start"], item["reference_frames"].tolist()
            frames = decode_window(video, range(29))
            window = item["video"].permute(1, 2, 3, 0).numpy()
            np.testing.assert_array_equal(window, frames[start : start + 9])
            np.testing.assert_array_equal(item["references"].permute(0, 2, 3, 1).numpy(), frames[references])
            expected = decode_flac(audio)[start * 640 : (start + 9) * 640]
            np.testing.assert_array_equal(item["audio"].numpy(), expected)


def test_the_stream_shows_every_clip_and_never_ends(stores) -> None:
    stream = stores[STREAM]()
    stream.fetch(DRAWS[:2])
    shown = {item["clip_id"] for _ in range(8) for item in stream.read(DRAWS)}
    assert shown == {f"clip{number}" for number in range(4)}


def test_stores_that_differ_are_told(stores) -> None:
    other = WindowSettings(size=64, num_frames=9, max_references=2, batch_size=3, seed=1)
    lance, loose = stores[LANCE](), stores[LOOSE]()
    loose.windows.seed = other.seed
    assert not same_windows({LANCE: lance, LOOSE: loose}, DRAWS)


def test_every_store_is_measured_in_every_repeat(stores) -> None:
    seen: list[int] = []
    readings = compare(stores, 4, SETTINGS, windows=4, repeats=2, progress=lambda: seen.append(len(seen)))
    assert seen == [0, 1]
    assert [reading.store for reading in readings] == [LANCE, SHARDS, STREAM, LOOSE]
    for reading in readings:
        for column in (reading.open_s, reading.windows_per_second, reading.cpu_ms, reading.fetch_ms):
            assert len(column) == 2
            assert min(column) >= 0
    text = markdown(readings, SETTINGS)
    for name in (LANCE, SHARDS, STREAM, LOOSE):
        assert text.count(f"| {name} |") == 1
    assert "Opening is not part of the rates" in text


def test_what_cannot_be_measured_is_refused(micro_clips: str, tmp_path: Path, stores) -> None:
    with pytest.raises(ValueError, match="windows and repeats must be positive, got 0 and 1"):
        compare(stores, 4, SETTINGS, windows=0, repeats=1)
    with pytest.raises(FileExistsError, match="holds something already"):
        open_stores(micro_clips, tmp_path, SETTINGS)
    with pytest.raises(FileNotFoundError, match="no clips table"):
        open_stores(str(tmp_path / "nothing"), tmp_path / "new", SETTINGS)
    with pytest.raises(ValueError, match="has 33 frames"):
        open_stores(micro_clips, tmp_path / "new", WindowSettings(size=64, num_frames=33))


def test_the_order_of_turns_changes() -> None:
    turns = [reading_benchmark._in_turn(["a", "b", "c"], turn) for turn in range(3)]
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]

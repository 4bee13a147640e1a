"""All stores give the same windows, bit for bit, and each is timed in every repeat."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.benchmark import data_reading
from jobs.benchmark.data_reading import LANCE, LOOSE, SHARDS, DataReadingBenchmark
from portrait.media.random_access import decode_window
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.clips import ClipTable
from portrait.storage.epoch_sampler import Draw


@pytest.fixture
def config(micro_clips: str, tmp_path: Path) -> DataReadingBenchmark:
    return DataReadingBenchmark(
        clips=micro_clips,
        num_frames=9,
        max_references=2,
        windows=4,
        batch_size=3,
        repeats=2,
        output=tmp_path / "run",
    )


@pytest.fixture
def stores(config: DataReadingBenchmark, tmp_path: Path) -> dict[str, ClipWindows]:
    return data_reading.open_stores(ClipTable.open(config.clips), tmp_path, config)


def test_every_store_gives_what_the_clip_holds(stores: dict[str, ClipWindows], micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    videos = dict(
        zip((row["clip_id"] for row in table.rows()), table.read_video(range(table.num_rows)), strict=True)
    )
    draws = [Draw(epoch, row) for epoch in range(2) for row in (2, 0, 3, 1)]
    assert list(stores) == [LANCE, SHARDS, LOOSE]
    for windows in stores.values():
        for item in windows.__getitems__(draws):
            frames, start = decode_window(videos[item["clip_id"]], range(29)), item["start"]
            window = item["video"].permute(1, 2, 3, 0).numpy()
            np.testing.assert_array_equal(window, frames[start : start + 9])


def test_stores_that_differ_stop_the_benchmark(
    stores: dict[str, ClipWindows], config: DataReadingBenchmark
) -> None:
    stores[LOOSE].seed = 1
    with pytest.raises(AssertionError):
        data_reading.compare(stores, config)


def test_the_job_times_every_store_in_every_repeat_and_writes_it_down(config: DataReadingBenchmark) -> None:
    readings = data_reading.main(config)
    for reading in readings.values():
        for column in (reading.wall_ms, reading.cpu_ms, reading.fetch_ms):
            assert len(column) == 2
            assert min(column) >= 0
    text = (config.output / "benchmark_data_reading.md").read_text()
    assert "4 clips. Windows of 9 frames at 64² with 2 references" in text
    records = json.loads((config.output / "benchmark_data_reading.json").read_text())
    assert [record["store"] for record in records] == [LANCE, SHARDS, LOOSE]
    for store in readings:
        assert text.count(f"| {store} |") == 1
    assert list(config.output.rglob("mlartifacts/**/benchmark_data_reading.md"))


def test_speed_is_relative_to_loose_files() -> None:
    readings = {
        LANCE: data_reading.Reading(wall_ms=[9, 9, 9], cpu_ms=[4, 5, 8], fetch_ms=[1, 2, 3]),
        LOOSE: data_reading.Reading(wall_ms=[5, 5, 5], cpu_ms=[4, 4, 4], fetch_ms=[1, 1, 1]),
    }
    settings = dict.fromkeys(("clips", "num_frames", "size", "max_references", "batch_size"), 1)
    text = data_reading.report(readings, {**settings, "repeats": 3, "windows": 1}).text
    assert f"| {LANCE} | 111.1 | 5.00 | 0.800 (0.500 … 1.000) | 2.000 |" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"windows": 0}, "--windows must be at least 1, got 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"num_frames": 33}, "has 33 frames"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    changes: dict, said: str, micro_clips: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        data_reading.main(DataReadingBenchmark(clips=micro_clips, output=tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no clips table at .*none\.lance"):
        data_reading.main(DataReadingBenchmark(clips=str(tmp_path / "none.lance"), output=tmp_path / "run"))

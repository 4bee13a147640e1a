"""Random training windows from three stores: `python -m jobs.benchmark data-reading --clips URI --size 512`.

A Lance table, WebDataset shards and loose MP4 files hold the same clips, and each is read as training reads: random
windows of frames with their references, decoded. The three take turns batch by batch, so that whatever else the machine
does affects all alike; processor time is reported as well, because other programs affect it less than elapsed time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from jobs import hardware
from jobs.benchmark.report import Report, publish, table
from portrait.storage.clip_collections import open_clips
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.clips import DEFAULT_COLUMNS, Clips, ClipTable
from portrait.storage.epoch_sampler import Draw, EpochSampler
from portrait.storage.shards import export_shards

LANCE, SHARDS, LOOSE = "Lance table", "WebDataset shards", "loose files"


@dataclass(frozen=True, kw_only=True)
class DataReadingBenchmark:
    """Random windows per second from a Lance table, from WebDataset shards and from loose files, in one thread.

    The shards and the files are exported to a temporary folder, so that everything is read from the system's cache.
    """

    clips: str
    """The clips table, a folder or URI."""
    size: int | None = None
    """Side of the pictures in pixels; that of the table's first clip by default."""
    num_frames: int = 17
    """Frames of a window, 1 + a multiple of 4."""
    max_references: int = 3
    """Reference pictures of a window."""
    windows: int = 200
    """Windows read from each store in each repeat; rounded up to whole batches."""
    batch_size: int = 8
    """Windows read at once."""
    repeats: int = 5
    """Repeats; medians are reported."""
    output: Path = Path("runs/benchmark")
    """Folder for benchmark_data_reading.md, benchmark_data_reading.json and the tracking store."""


@dataclass(kw_only=True)
class Reading:
    """Milliseconds per window from one store, a value per repeat."""

    wall_ms: list[float] = field(default_factory=list)
    """Time to read and decode."""
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time of the same, in all threads."""
    fetch_ms: list[float] = field(default_factory=list)
    """Processor time to read the clip's bytes without decoding them."""


class LooseFiles(Clips):
    """The videos of a table as files `CLIP_ID.mp4`, written to a new folder."""

    def __init__(self, table: ClipTable, folder: Path) -> None:
        self._table = table
        self._paths = [folder / f"{row['clip_id']}.mp4" for row in table.rows()]
        folder.mkdir()
        for index, path in enumerate(self._paths):
            path.write_bytes(table.read_video([index])[0])

    @property
    def num_rows(self) -> int:
        return self._table.num_rows

    @property
    def version(self) -> int:
        """That of the table."""
        return self._table.version

    def rows(self, columns: Sequence[str] = DEFAULT_COLUMNS) -> list[dict[str, Any]]:
        """See `Clips.rows`."""
        return self._table.rows(columns)

    def _read(self, column: str, indices: Sequence[int]) -> list[bytes]:
        assert column == "video"
        return [self._paths[int(index)].read_bytes() for index in indices]


def main(config: DataReadingBenchmark) -> dict[str, Reading]:
    """Measures all stores and writes the report.

    Raises:
        FileNotFoundError: there is no table.
        ValueError: an option is out of range, or no clip is long enough for a window.
    """
    for name in ("windows", "batch_size", "repeats"):
        if getattr(config, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(config, name)}")
    clips = ClipTable.open(config.clips)
    with TemporaryDirectory(prefix="benchmark_") as folder:
        stores = open_stores(clips, Path(folder), config)
        readings = compare(stores, config)
    size = stores[LANCE].size
    publish(
        "data_reading",
        {**asdict(config), "hardware": hardware.described("cpu")},
        report(readings, {**asdict(config), "size": size, "clips": len(stores[LANCE])}),
        config.output,
    )
    return readings


def open_stores(table: ClipTable, folder: Path, config: DataReadingBenchmark) -> dict[str, ClipWindows]:
    """The windows of the table, and of its shards and loose files, which are written below an empty folder."""
    size = config.size or table.rows(("height",))[0]["height"]
    export_shards(table, folder / "shards")
    stores: dict[str, Clips] = {
        LANCE: table,
        SHARDS: open_clips(str(folder / "shards")),
        LOOSE: LooseFiles(table, folder / "loose"),
    }
    return {
        name: ClipWindows(clips, size, config.num_frames, max_references=config.max_references, split=None)
        for name, clips in stores.items()
    }


def compare(stores: Mapping[str, ClipWindows], config: DataReadingBenchmark) -> dict[str, Reading]:
    """Times all stores side by side.

    Raises:
        AssertionError: the stores give different windows for the same draws.
    """
    readings = {name: Reading() for name in stores}
    num_clips = len(stores[LANCE])
    order = iter(EpochSampler(num_clips, batch_size=config.batch_size))
    first = next(order)  # this batch is not timed
    expected, *others = (windows.__getitems__(first) for windows in stores.values())
    assert all(_same(a, b) for other in others for a, b in zip(expected, other, strict=True))
    num_batches = -(-config.windows // config.batch_size)
    for repeat in tqdm(range(config.repeats), "reading windows", unit="repeat"):
        spent = {name: [0.0, 0.0, 0.0] for name in stores}
        for number, draws in enumerate(islice(order, num_batches)):
            for name in _rotated(list(stores), repeat + number):
                for i, seconds in enumerate(_timed(stores[name], draws)):
                    spent[name][i] += seconds
        for name, reading in readings.items():
            values = (1000 * seconds / (num_batches * config.batch_size) for seconds in spent[name])
            for column, value in zip(
                (reading.wall_ms, reading.cpu_ms, reading.fetch_ms), values, strict=True
            ):
                column.append(value)
    return readings


def _rotated(names: list[str], turn: int) -> list[str]:
    """The names, beginning with another one each turn, so that no store always follows the same other one."""
    first = turn % len(names)
    return names[first:] + names[:first]


def _timed(windows: ClipWindows, draws: Sequence[Draw]) -> tuple[float, float, float]:
    """Seconds and processor seconds to read and decode a batch, and processor seconds to read its bytes alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    windows.__getitems__(draws)
    read_wall, read_cpu = time.perf_counter() - wall, time.process_time() - cpu
    cpu = time.process_time()
    windows.read_videos(draws)
    return read_wall, read_cpu, time.process_time() - cpu


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)


def report(readings: Mapping[str, Reading], settings: Mapping[str, Any]) -> Report:
    """One row per store; speeds relative to loose files are medians over the repeats."""
    rows, records, metrics = [], [], {}
    for name, reading in readings.items():
        ratios = [loose / own for loose, own in zip(readings[LOOSE].cpu_ms, reading.cpu_ms, strict=True)]
        speed = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} … {max(ratios):.3f})"
        wall_ms, cpu_ms, fetch_ms = map(statistics.median, asdict(reading).values())
        rows.append([name, f"{1000 / wall_ms:.1f}", f"{cpu_ms:.2f}", speed, f"{fetch_ms:.3f}"])
        records.append({"store": name, **settings, **asdict(reading)})
        metrics[f"cpu_ms/{name.replace(' ', '_')}"] = cpu_ms
    return Report(
        text=f"{settings['clips']} clips. Windows of {settings['num_frames']} frames at {settings['size']}² with "
        f"{settings['max_references']} references, in batches of {settings['batch_size']}, one thread; medians of "
        f"{settings['repeats']} repeats of {settings['windows']} windows. Speed is loose files' processor time over "
        "the store's (minimum … maximum); files are in the system's cache.\n\n"
        + table(["store", "windows/s", "CPU ms per window", "speed", "reading, CPU ms per window"], rows),
        records=records,
        metrics=metrics,
    )

"""How many random training windows a second come from Lance, from WebDataset shards and from loose files.

All stores hold the same clips, and each is asked for the same windows, decoded as training decodes them: T+1 frames,
their references and their sound. The stores take turns batch by batch, so that what else the machine does hits all of
them alike. WebDataset is measured twice: through our index of its tar files, which reads clips at random, and through
its own reader, which can only stream shards and shuffle a buffer, and so shows other windows, as many.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
import webdataset

from portrait.storage.clip_collections import Clips, open_clips
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.clips import ClipTable
from portrait.storage.epoch_sampler import Draw, EpochSampler
from portrait.storage.loose_clips import LooseClips, export_loose
from portrait.storage.shards import export_shards, row_of

LANCE, SHARDS, STREAM, LOOSE = (
    "Lance",
    "WebDataset shards, at random by our index",
    "WebDataset shards, streamed by its own reader",
    "loose MP4 and FLAC files",
)
SHUFFLE_BUFFER = 64
"""Samples that WebDataset's own reader holds to shuffle among."""
Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Which windows are read."""

    size: int
    """Side of the pictures in pixels."""
    num_frames: int = 17
    """Frames of a window, 1 + a multiple of 4."""
    max_references: int = 3
    """Reference pictures of each."""
    batch_size: int = 8
    """Windows that are asked for at once."""
    seed: int = 0
    """Of the order and of every window."""


@dataclass(kw_only=True)
class Reading:
    """What a store gave, an entry a repeat."""

    store: str
    """Which one."""
    open_s: list[float] = field(default_factory=list)
    """Seconds to open it and find the clips; no part of the rates."""
    windows_per_second: list[float] = field(default_factory=list)
    """Windows read and decoded a second."""
    cpu_ms: list[float] = field(default_factory=list)
    """Processor time a window, in milliseconds."""
    fetch_ms: list[float] = field(default_factory=list)
    """The part of reading: milliseconds from the order to a clip's bytes; not told apart where it is streamed."""

    @property
    def rate(self) -> float:
        """Median windows a second."""
        return statistics.median(self.windows_per_second)


class WindowStore(Protocol):
    """Gives batches of windows."""

    def fetch(self, draws: Sequence[Draw]) -> None:
        """Reads the clips' bytes and decodes nothing."""
        ...

    def read(self, draws: Sequence[Draw]) -> list[Item]:
        """As many items as draws: those of `ClipWindows`, with the window's sound as `audio` float32 [S]."""
        ...


class RandomStore:
    """A collection that is read at random: the items are the draws'."""

    def __init__(self, clips: Clips, settings: WindowSettings) -> None:
        self.windows = windows_of(clips, settings)

    def fetch(self, draws: Sequence[Draw]) -> None:
        """See `WindowStore`."""
        self.windows.read_bytes(draws)

    def read(self, draws: Sequence[Draw]) -> list[Item]:
        """See `WindowStore`."""
        items = self.windows.__getitems__(draws)
        return [
            {**item, "audio": audio}
            for item, audio in zip(items, self.windows.read_audio(draws), strict=True)
        ]


class StreamedStore:
    """Shards as WebDataset itself reads them, endlessly: the next clips of the stream, a window of each.

    Args:
        folder: shards of `export_shards`.
        windows: of the same clips: says which window a draw means.
    """

    def __init__(self, folder: Path, windows: ClipWindows) -> None:
        self._windows = windows
        self._rows = {clip_id: row for row, clip_id in enumerate(windows.clip_ids)}
        names = sorted(str(path) for path in folder.glob("*.tar"))
        shards = webdataset.WebDataset(names, shardshuffle=len(names), seed=windows.seed, empty_check=False)
        self._samples: Iterator[Item] = iter(shards.shuffle(SHUFFLE_BUFFER).repeat())

    def fetch(self, draws: Sequence[Draw]) -> None:
        """Takes samples off the stream."""
        for _ in islice(self._samples, len(draws)):
            pass

    def read(self, draws: Sequence[Draw]) -> list[Item]:
        """See `WindowStore`; the rows are the stream's, of the draws only the epochs count."""
        items = []
        while len(items) < len(draws):
            row = row_of(next(self._samples))
            if row["clip_id"] not in self._rows:
                continue  # too short a clip for a window
            draw = Draw(draws[len(items)].epoch, self._rows[row["clip_id"]])
            audio = self._windows.audio(draw, row["audio"])
            items.append({**self._windows.item(draw, row["video"]), "audio": audio})
        return items


def windows_of(clips: Clips, settings: WindowSettings) -> ClipWindows:
    """The windows of all clips of a collection that are long enough."""
    return ClipWindows(
        clips,
        settings.size,
        settings.num_frames,
        max_references=settings.max_references,
        seed=settings.seed,
        split=None,
    )


def open_stores(uri: str, folder: Path, settings: WindowSettings) -> dict[str, Callable[[], WindowStore]]:
    """The clips of a table in every form, written below a folder; each value opens one anew.

    Args:
        uri: a clips table.
        folder: gets `shards` and `loose`; must hold neither.
        settings: which windows are wanted.

    Raises:
        FileNotFoundError: there is no table.
        FileExistsError: the folder holds shards or loose files already.
        ValueError: no clip is long enough for a window.
    """
    table = ClipTable.open(uri)
    windows = windows_of(table, settings)
    shards, loose = folder / "shards", folder / "loose"
    export_shards(table, shards)
    export_loose(table, loose)
    return {
        LANCE: lambda: RandomStore(ClipTable.open(uri), settings),
        SHARDS: lambda: RandomStore(open_clips(str(shards)), settings),
        STREAM: lambda: StreamedStore(shards, windows),
        LOOSE: lambda: RandomStore(LooseClips.open(loose), settings),
    }


def compare(
    stores: Mapping[str, Callable[[], WindowStore]],
    num_clips: int,
    settings: WindowSettings,
    *,
    windows: int,
    repeats: int,
    progress: Callable[[], object] = lambda: None,
) -> list[Reading]:
    """Times all stores side by side.

    Each repeat opens them anew, reads one batch of each that is not counted, and then `windows` windows of each.

    Args:
        stores: name to what opens it, as `open_stores` gives them.
        num_clips: clips from which windows are drawn, the same in all stores.
        settings: which windows, and how many at once.
        windows: windows of each store and repeat; rounded up to whole batches.
        repeats: how often.
        progress: called after every repeat.

    Raises:
        ValueError: a number is out of range.
    """
    if windows < 1 or repeats < 1:
        raise ValueError(f"windows and repeats must be positive, got {windows} and {repeats}")
    readings = {name: Reading(store=name) for name in stores}
    order = iter(EpochSampler(num_clips, seed=settings.seed, batch_size=settings.batch_size))
    batches = -(-windows // settings.batch_size)
    for repeat in range(repeats):
        opened = {}
        for name, opens in stores.items():
            started = time.perf_counter()
            opened[name] = opens()
            readings[name].open_s.append(time.perf_counter() - started)
        warm_up = next(order)
        for store in opened.values():
            store.read(warm_up)
        spent = {name: [0.0, 0.0, 0.0] for name in opened}
        for batch, draws in enumerate(islice(order, batches)):
            for name in _in_turn(list(opened), repeat + batch):
                for i, seconds in enumerate(_timed(opened[name], draws)):
                    spent[name][i] += seconds
        count = batches * settings.batch_size
        for name, (wall_s, cpu_s, fetch_s) in spent.items():
            readings[name].windows_per_second.append(count / wall_s)
            readings[name].cpu_ms.append(1000 * cpu_s / count)
            readings[name].fetch_ms.append(1000 * fetch_s / count)
        progress()
    return list(readings.values())


def _in_turn(names: list[str], turn: int) -> list[str]:
    """The names, another one first each turn: none is always the one that finds the caches as another left them."""
    first = turn % len(names)
    return names[first:] + names[:first]


def _timed(store: WindowStore, draws: Sequence[Draw]) -> tuple[float, float, float]:
    """Seconds of reading and decoding a batch, its processor time, and seconds of reading its bytes alone."""
    wall, cpu = time.perf_counter(), time.process_time()
    store.read(draws)
    read_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    wall = time.perf_counter()
    store.fetch(draws)
    return read_s, cpu_s, time.perf_counter() - wall


def markdown(readings: Sequence[Reading], settings: WindowSettings) -> str:
    """A table, one row a store; ratios are medians over the repeats, in each of which the stores took turns."""
    base = readings[0]
    lines = [
        f"Windows of {settings.num_frames} frames at {settings.size}² with {settings.max_references} references and "
        f"their sound, {settings.batch_size} at once, in one thread. Medians of {len(base.open_s)} repeats "
        "(least … most). Opening is not part of the rates; files are in the system's cache.",
        "",
        f"| store | windows/s | {base.store} is so many times as fast | CPU ms a window | bytes alone, ms a clip | "
        "opening, ms |",
        "|---|---|---|---|---|---|",
    ]
    for reading in readings:
        rates, median = reading.windows_per_second, statistics.median
        ratios = [ours / theirs for ours, theirs in zip(base.windows_per_second, rates, strict=True)]
        ratio = "–" if reading is base else f"{median(ratios):.3f} ({min(ratios):.3f} … {max(ratios):.3f})"
        lines.append(
            f"| {reading.store} | {reading.rate:.1f} ({min(rates):.1f} … {max(rates):.1f}) | {ratio} | "
            f"{median(reading.cpu_ms):.2f} | {median(reading.fetch_ms):.3f} | "
            f"{1000 * median(reading.open_s):.1f} |"
        )
    return "\n".join(lines) + "\n"


def same_windows(stores: Mapping[str, WindowStore], draws: Sequence[Draw]) -> bool:
    """Whether stores that read at random give the same bits for the same draws."""
    first, *others = (store.read(draws) for store in stores.values())
    return all(
        a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
        for other in others
        for a, b in zip(first, other, strict=True)
    )


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b

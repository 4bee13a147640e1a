"""What the whole chain costs, file by file on one core, against what FFmpeg alone needs for the same files.

The chain is everything that happens to a file: its hash, decoding, shots, face track, crop, quality, H.264 and FLAC,
Lance fragments. Both take turns within one run, so that what else the machine does hits both alike; processor time
counts beside the clock's, since other work stops the clock only of what it delays.
"""

from __future__ import annotations

import cProfile
import inspect
import os
import pstats
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

import cv2
import torch

from data_prep import quality
from data_prep.cut_settings import CutSettings
from data_prep.cutting import cut_file
from data_prep.rejects import Reject
from data_prep.shots import ShotDetector
from data_prep.sources import Footage
from data_prep.speech_activity import speech_ratio
from data_prep.transcoding import Transcode
from portrait.faces import portrait_crop, track_faces
from portrait.media.audio import encode_flac
from portrait.media.mp4 import encode_video
from portrait.media.planar_frame import PlanarFrame, ReducedFrames, grey_levels
from portrait.media.soundtrack import read_soundtrack
from portrait.media.video import iter_planar_frames
from portrait.storage.clips import write_clips

_QUALITY = [
    value for name, value in vars(quality).items() if isinstance(value, FunctionType) and name[0] != "_"
]
STAGES: dict[str, Sequence[Callable[..., Any]]] = {
    "decode pictures": (iter_planar_frames,),
    "small copies": (PlanarFrame.reduced,),
    "shots": (ShotDetector.push,),
    "face detection and track": (track_faces,),
    "crop": (portrait_crop, PlanarFrame.square),
    "encode H.264": (encode_video,),
    "sound in and out": (read_soundtrack, encode_flac),
    "quality": (*_QUALITY, grey_levels, speech_ratio),
    "Lance write": (write_clips,),
}
"""What the chain's time goes to: functions, of which only `track_faces` calls another (`PlanarFrame.reduced`)."""


@dataclass(frozen=True)
class Seconds:
    """What a piece of work took."""

    wall: float
    """By the clock."""
    cpu: float
    """Of the processor, all threads and child processes together."""


@dataclass(kw_only=True)
class FileCost:
    """What a file costs; an entry a repeat."""

    footage: Footage
    """The file."""
    rows: list[dict[str, Any]] = field(repr=False)
    """Its clips."""
    rejects: list[Reject]
    """What of it was left out."""
    stages: dict[str, float]
    """Processor seconds of the chain by stage, in one run of its own under a profiler."""
    chain: list[Seconds] = field(default_factory=list)
    """The whole chain."""
    ffmpeg: list[Seconds] = field(default_factory=list)
    """FFmpeg alone."""

    @property
    def video_s(self) -> float:
        """Seconds of video in its clips."""
        return sum(row["num_frames"] / row["fps"] for row in self.rows)


def measure_all(
    files: Sequence[Footage], settings: CutSettings, transcode: Transcode, *, repeats: int
) -> Iterator[FileCost]:
    """Costs of the files in their order, as they come; a file of which no clip comes has no times.

    Args:
        files: what to cut.
        settings: how.
        transcode: FFmpeg alone; see `transcoding.transcoder`.
        repeats: runs of each.

    Raises:
        ValueError: `repeats` is not positive, or FFmpeg cannot read a file that the chain can.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be positive, got {repeats}")
    if not files:
        return
    with TemporaryDirectory() as folder, one_core():
        smallest = min(files, key=Footage.bytes_on_disk)
        chain(smallest, settings, Path(folder) / "warm_up.lance")  # loads networks
        for number, file in enumerate(files):
            yield _measure(file, settings, transcode, Path(folder) / str(number), repeats)


def chain(footage: Footage, settings: CutSettings, table: Path) -> tuple[list[dict[str, Any]], list[Reject]]:
    """All that is done for a file: rows and rejects; the rows are written as fragments of a table."""
    rows, rejects = cut_file(footage, footage.content_hash(), "train", settings)
    if rows:
        write_clips(str(table), rows)
    return rows, rejects


def _measure(
    footage: Footage, settings: CutSettings, transcode: Transcode, folder: Path, repeats: int
) -> FileCost:
    folder.mkdir()
    stages, (rows, rejects) = profiled(lambda: chain(footage, settings, folder / "profiled.lance"))
    cost = FileCost(footage=footage, rows=rows, rejects=rejects, stages=stages)
    if not rows:
        return cost
    for repeat in range(repeats):
        turns = [
            (cost.chain, lambda at=repeat: chain(footage, settings, folder / f"{at}.lance")),
            (cost.ffmpeg, lambda: transcode(footage.path, folder)),
        ]
        for seconds, work in turns if repeat % 2 == 0 else reversed(turns):
            seconds.append(timed(work))
    return cost


def timed(work: Callable[[], object]) -> Seconds:
    """Runs it once."""
    wall, cpu = time.perf_counter(), _processor_s()
    work()
    return Seconds(time.perf_counter() - wall, _processor_s() - cpu)


def _processor_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def profiled(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Processor seconds by stage, and what the work returns."""
    profile = cProfile.Profile(time.process_time)
    started = time.process_time()
    result = profile.runcall(work)
    total = time.process_time() - started
    entries: dict[Any, Any] = getattr(pstats.Stats(profile), "stats")  # noqa: B009 - not in the stubs

    def spent_in(*functions: Callable[..., Any]) -> float:
        codes = [inspect.unwrap(function).__code__ for function in functions]
        keys = [(code.co_filename, code.co_firstlineno, code.co_name) for code in codes]
        return sum(entries[key][3] for key in keys if key in entries)

    spent = {stage: spent_in(*functions) for stage, functions in STAGES.items()}
    spent["face detection and track"] -= spent_in(ReducedFrames.__getitem__)
    return {**spent, "the rest": total - sum(spent.values())}, result


@contextmanager
def one_core() -> Iterator[None]:
    """This thread and the processes it starts share one core, as data preparation gives each file one."""
    threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        torch.set_num_threads(torch_threads)
        if cores:
            os.sched_setaffinity(0, cores)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The chain's speed as a share of FFmpeg's: 1 where all else costs nothing."""

    median: float
    """Of medians over the repeats."""
    least: float
    """In the repeat where it was least."""
    most: float
    """In the repeat where it was most."""


def ratio(costs: Sequence[FileCost], clock: str) -> Ratio:
    """The ratio over all files; `clock` is `wall` or `cpu`.

    Raises:
        ValueError: no file gave a clip.
    """
    measured = [cost for cost in costs if cost.chain]
    if not measured:
        raise ValueError(
            "no file gave a clip: " + "; ".join(str(reject) for cost in costs for reject in cost.rejects)
        )
    ours = _totals([cost.chain for cost in measured], clock)
    theirs = _totals([cost.ffmpeg for cost in measured], clock)
    each = [b / a for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median=statistics.median(theirs) / statistics.median(ours), least=min(each), most=max(each))


def _totals(runs: Sequence[Sequence[Seconds]], clock: str) -> list[float]:
    """Seconds of all files together, repeat by repeat."""
    return [sum(getattr(seconds, clock) for seconds in repeat) for repeat in zip(*runs, strict=True)]

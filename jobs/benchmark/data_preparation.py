"""Data preparation against FFmpeg alone: `python -m jobs.benchmark data-preparation --source FOLDER --size 512`.

Preparing a file is everything from its hash to Lance fragments: decoding, shots, face track, crop, quality, H.264 and
FLAC. FFmpeg alone decodes, crops a square, scales it and encodes as the clips table does, which is the least that
preparation could cost. Both run on one core and take turns within one run, and processor time is compared: other
programs on the machine then affect neither the ratio nor each side alone.
"""

from __future__ import annotations

import cProfile
import inspect
import os
import pstats
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

import cv2
import torch
from tqdm import tqdm

from data_prep import quality
from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.rejects import Reject
from data_prep.shots import ShotDetector
from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage
from data_prep.speech_activity import speech_ratio
from jobs import hardware
from jobs.benchmark.report import Report, publish, table
from portrait.faces import portrait_crop, track_faces
from portrait.media.audio import encode_flac
from portrait.media.mp4 import encode_video
from portrait.media.planar_frame import PlanarFrame, ReducedFrames, grey_levels
from portrait.media.soundtrack import read_soundtrack
from portrait.media.video import iter_planar_frames
from portrait.storage.clips import GROUP_OF_PICTURES, write_clips
from portrait.timing import FRAME_RATE, SAMPLE_RATE

_QUALITY = [
    value for name, value in vars(quality).items() if isinstance(value, FunctionType) and name[0] != "_"
]
STEPS: dict[str, Sequence[Callable[..., Any]]] = {
    "decode frames": (iter_planar_frames,),
    "reduced copies": (PlanarFrame.reduced,),
    "shots": (ShotDetector.push,),
    "face detection and track": (track_faces,),
    "crop": (portrait_crop, PlanarFrame.square),
    "encode H.264": (encode_video,),
    "decode and encode audio": (read_soundtrack, encode_flac),
    "quality": (*_QUALITY, grey_levels, speech_ratio),
    "Lance write": (write_clips,),
}
"""The functions that each step times; none calls another, except that `track_faces` makes reduced copies."""
REST = "the rest"


@dataclass(frozen=True, kw_only=True)
class DataPreparationBenchmark:
    """Processor time of preparing footage on one core, compared with FFmpeg alone, and where that time goes.

    Needs the ffmpeg program.
    """

    source: Path
    """Folder of videos, or one video file."""
    size: int = 512
    """Side of the stored portraits in pixels."""
    repeats: int = 5
    """Runs of each file; medians are reported."""
    output: Path = Path("runs/benchmark")
    """Folder for benchmark_data_preparation.md, benchmark_data_preparation.json and the tracking store."""


@dataclass(kw_only=True)
class FileCost:
    """Processor seconds of one file."""

    footage: Footage
    rows: list[dict[str, Any]] = field(repr=False)
    """Its clips."""
    rejects: list[Reject]
    """The parts of it that were rejected."""
    steps: dict[str, float]
    """By step, in a run of its own under a profiler."""
    ours: list[float] = field(default_factory=list)
    """Of preparing it, a value per repeat; empty if it gave no clip."""
    ffmpeg: list[float] = field(default_factory=list)
    """Of FFmpeg alone, a value per repeat."""


def main(config: DataPreparationBenchmark) -> list[FileCost]:
    """Measures all files and writes the report.

    Raises:
        FileNotFoundError: the footage or the ffmpeg program does not exist.
        ValueError: an option is out of range, no file gave a clip, or FFmpeg cannot read a file that we can.
    """
    if config.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {config.repeats}")
    if shutil.which("ffmpeg") is None:
        raise FileNotFoundError("this benchmark needs the ffmpeg program, which is not on PATH: install it")
    settings = CutSettings(size=config.size)
    files = FolderSource(folder=config.source).files()
    with one_core(), TemporaryDirectory(prefix="benchmark_") as folder:
        smallest = min(files, key=Footage.bytes_on_disk)
        prepare(smallest, settings, Path(folder) / "warm_up.lance")  # loads the networks
        costs = [
            measure(file, settings, Path(folder) / str(number), config.repeats)
            for number, file in enumerate(tqdm(files, "preparing", unit="file"))
        ]
    if not any(cost.rows for cost in costs):
        raise ValueError(
            "no file gave a clip: " + "; ".join(str(reject) for cost in costs for reject in cost.rejects)
        )
    params = {**asdict(config), "hardware": hardware.described("cpu")}
    publish("data_preparation", params, report(costs, config.size), config.output)
    return costs


def prepare(
    footage: Footage, settings: CutSettings, table: Path
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Does all that is done for a file; writes the rows as fragments and returns them with the rejects."""
    rows, rejects = cut_file(footage, footage.content_hash(), "train", settings)
    if rows:
        write_clips(str(table), rows)
    return rows, rejects


def transcode(path: str, folder: Path, settings: CutSettings) -> None:
    """Writes `video.mp4` and `audio.flac` with FFmpeg, one thread each: the square in the middle, 25 frames/s, 16 kHz.

    Raises:
        ValueError: FFmpeg failed.
    """
    square = "crop='min(iw,ih)':'min(iw,ih)'"
    filters = f"fps={FRAME_RATE},{square},scale={settings.size}:{settings.size}:flags=area,format=yuv420p"
    groups = f"keyint={GROUP_OF_PICTURES}:min-keyint={GROUP_OF_PICTURES}:scenecut=0:open-gop=0:threads=1"
    preset = inspect.signature(encode_video).parameters["preset"].default
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-filter_threads", "1"]
    command += ["-i", f"file:{path}", "-map", "0:v:0", "-vf", filters, "-c:v", "libx264", "-preset", preset]
    command += ["-crf", str(settings.crf), "-bf", "0", "-x264-params", groups, "-threads", "1"]
    command += [str(folder / "video.mp4"), "-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLE_RATE)]
    command += ["-sample_fmt", "s16", "-c:a", "flac", str(folder / "audio.flac")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{path}: ffmpeg failed: {' '.join(done.stderr.split())}")


def measure(file: Footage, settings: CutSettings, folder: Path, repeats: int) -> FileCost:
    """Profiles a file once and then times both sides, which take turns."""
    folder.mkdir()
    steps, (rows, rejects) = profiled(lambda: prepare(file, settings, folder / "profiled.lance"))
    cost = FileCost(footage=file, rows=rows, rejects=rejects, steps=steps)
    if not rows:
        return cost
    for repeat in range(repeats):
        turns = [
            (cost.ours, lambda at=repeat: prepare(file, settings, folder / f"{at}.lance")),
            (cost.ffmpeg, lambda: transcode(file.path, folder, settings)),
        ]
        for seconds, work in turns if repeat % 2 == 0 else reversed(turns):
            started = _processor_s()
            work()
            seconds.append(_processor_s() - started)
    return cost


def _processor_s() -> float:
    """Processor seconds of this process, all its threads, and its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def profiled(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Processor seconds by step, and what the work returns."""
    profile = cProfile.Profile(time.process_time)
    started = time.process_time()
    result = profile.runcall(work)
    total = time.process_time() - started
    entries: dict[Any, Any] = getattr(pstats.Stats(profile), "stats")  # noqa: B009 - not in the stubs

    def spent_in(*functions: Callable[..., Any]) -> float:
        codes = [inspect.unwrap(function).__code__ for function in functions]
        keys = [(code.co_filename, code.co_firstlineno, code.co_name) for code in codes]
        return sum(entries[key][3] for key in keys if key in entries)

    spent = {step: spent_in(*functions) for step, functions in STEPS.items()}
    spent["face detection and track"] -= spent_in(ReducedFrames.__getitem__)
    return {**spent, REST: total - sum(spent.values())}, result


@contextmanager
def one_core() -> Iterator[None]:
    """Confines this thread, and the processes that it starts, to one core, as data preparation gives each file one."""
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
class Totals:
    """Processor seconds of all measured files together."""

    ours: float
    """Median over the repeats."""
    ffmpeg: float
    """Median over the repeats."""
    ratios: list[float]
    """FFmpeg's time over that of data preparation, a value per repeat; 1 if nothing but transcoding cost anything."""

    @classmethod
    def of(cls, costs: Sequence[FileCost]) -> Totals:
        """Sums the files repeat by repeat."""
        ours = [sum(repeat) for repeat in zip(*(cost.ours for cost in costs), strict=True)]
        ffmpeg = [sum(repeat) for repeat in zip(*(cost.ffmpeg for cost in costs), strict=True)]
        ratios = [b / a for a, b in zip(ours, ffmpeg, strict=True)]
        return cls(ours=statistics.median(ours), ffmpeg=statistics.median(ffmpeg), ratios=ratios)


def report(costs: Sequence[FileCost], size: int) -> Report:
    """A row per file and one for all, then a row per step; files without a clip are only in the list of rejects."""
    measured = [cost for cost in costs if cost.rows]
    rows = [_row(Path(cost.footage.path).name, [cost]) for cost in measured] + [_row("all", measured)]
    spent = {step: sum(cost.steps[step] for cost in measured) for step in (*STEPS, REST)}
    frames = sum(row["num_frames"] for cost in measured for row in cost.rows)
    total = sum(spent.values())
    steps = [
        [step, f"{seconds:.2f}", f"{1000 * seconds / frames:.2f}", f"{seconds / total:.1%}"]
        for step, seconds in spent.items()
    ]
    rejects = "".join(f"\nRejected: {reject}\n" for cost in costs for reject in cost.rejects)
    totals = Totals.of(measured)
    return Report(
        text=f"Clips of {size}², one core; processor seconds, medians of {len(measured[0].ours)} repeats. The ratio is "
        "FFmpeg's time over data preparation's.\n\n"
        + table(["file", "clips", "video s", "preparation s", "FFmpeg alone s", "ratio"], rows)
        + rejects
        + "\nWhere the time goes, in one run under Python's profiler:\n\n"
        + table(["step", "s", "ms per stored frame", "share"], steps),
        records=[_record(cost) for cost in costs],
        metrics={
            "ratio": totals.ffmpeg / totals.ours,
            "preparation_s": totals.ours,
            "ffmpeg_s": totals.ffmpeg,
        },
    )


def _row(name: str, costs: Sequence[FileCost]) -> list[str]:
    totals = Totals.of(costs)
    clips = [row for cost in costs for row in cost.rows]
    ratio = f"{totals.ffmpeg / totals.ours:.3f} ({min(totals.ratios):.3f} … {max(totals.ratios):.3f})"
    video_s = sum(row["num_frames"] / row["fps"] for row in clips)
    return [name, f"{len(clips)}", f"{video_s:.1f}", f"{totals.ours:.2f}", f"{totals.ffmpeg:.2f}", ratio]


def _record(cost: FileCost) -> Mapping[str, Any]:
    return {
        "file": Path(cost.footage.path).name,
        "clips": len(cost.rows),
        "rejects": [str(reject) for reject in cost.rejects],
        "steps": cost.steps,
        "preparation_s": cost.ours,
        "ffmpeg_s": cost.ffmpeg,
    }

"""Time and peak memory of the VAE: `python -m jobs.benchmark vae --preset tiny --sizes 128 256 --frames 17 73`.

Every case runs in a process of its own, so that memory which an earlier case allocated is neither counted nor reused.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from jobs import hardware
from jobs.benchmark.report import Report, publish, table
from pipelines import reconstruction
from portrait import presets
from portrait.timing import FRAMES_PER_LATENT, is_whole_latents
from portrait.vae import VideoVAE


@dataclass(frozen=True, kw_only=True)
class VAEBenchmark:
    """Time and peak memory of encoding and decoding, for every combination of picture size, clip length and number of
    references.

    Weights and pictures are random: neither time nor memory depends on them.
    """

    preset: str = "tiny"
    """Preset of the system."""
    sizes: tuple[int, ...] = ()
    """Sides of the pictures in pixels; the preset's size by default."""
    frames: tuple[int, ...] = (1, 17, 73)
    """Lengths of the clip, each 1 + a multiple of 4."""
    references: tuple[int, ...] = (1,)
    """Numbers of references."""
    repeats: int = 5
    """Runs of each case; the median is reported."""
    device: hardware.Device = "auto"
    """Device to run on; `auto` takes a GPU if there is one."""
    output: Path = Path("runs/benchmark")
    """Folder for benchmark_vae.md, benchmark_vae.json and the tracking store."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured."""

    preset: str
    size: int
    """Side of the pictures in pixels."""
    num_frames: int
    """1 + a multiple of 4."""
    references: int
    """Number of references M."""
    streamed: bool
    """True: in blocks of 16 frames with the state carried from block to block; False: the whole clip at once."""
    device: str
    """`cpu` in float32 or `cuda` in bfloat16."""
    repeats: int
    """Timed runs; one more before them is not timed."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The measurements of a case."""

    encode_s: float
    """Seconds to encode the clip."""
    decode_s: float
    """Seconds to decode it, given the references' features."""
    encode_mib: float
    """Peak memory while encoding, in MiB above what the weights and the clip take."""
    decode_mib: float
    """The same while decoding; the decoded clip is part of it."""


def main(config: VAEBenchmark) -> list[tuple[Case, Cost]]:
    """Measures all cases and writes the report.

    Raises:
        ValueError: an option is out of range, or a case ran out of memory; the cases before it are in the report.
    """
    cases = cases_of(config)
    results: list[tuple[Case, Cost]] = []
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
            costs = tqdm(processes.map(measure, cases), total=len(cases), unit="case")
            for case, cost in zip(cases, costs, strict=True):
                results.append((case, cost))
    except BrokenProcessPool as error:
        raise ValueError(
            f"the process measuring {cases[len(results)]} was killed, most likely because memory ran out: remove this "
            f"case; the {len(results)} cases before it were measured"
        ) from error
    finally:
        if results:
            where = hardware.described(cases[0].device)
            if cases[0].device == "cpu":
                where += f", {torch.get_num_threads()} threads"
            publish("vae", {**asdict(config), "hardware": where}, report(results, where), config.output)
    return results


def cases_of(config: VAEBenchmark) -> list[Case]:
    """All combinations, each clip whole and in blocks.

    Raises:
        ValueError: an option is out of range.
    """
    preset = presets.load(config.preset)
    sizes, factor = config.sizes or (preset.video.size,), preset.vae.space_factor
    for size in sizes:
        if size < 1 or size % factor:
            raise ValueError(f"--sizes must be positive multiples of {factor}, got {size}")
    for frames in config.frames:
        if not is_whole_latents(frames):
            raise ValueError(f"--frames must be 1 + multiples of {FRAMES_PER_LATENT}, got {frames}")
    if min(config.references, default=0) < 0:
        raise ValueError(f"--references must not be negative, got {min(config.references)}")
    if config.repeats < 1:
        raise ValueError(f"--repeats must be at least 1, got {config.repeats}")
    return [
        Case(
            preset=config.preset,
            size=size,
            num_frames=frames,
            references=references,
            streamed=streamed,
            device=hardware.chosen(config.device),
            repeats=config.repeats,
        )
        for size, frames, references, streamed in itertools.product(
            sizes, config.frames, config.references, (False, True)
        )
    ]


@torch.no_grad()
def measure(case: Case) -> Cost:
    """Measures a case in this process."""
    device = torch.device(case.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with device:
        vae = VideoVAE(presets.load(case.preset).vae).to(dtype).eval()
        video = torch.rand(1, 3, case.num_frames, case.size, case.size, dtype=dtype) * 2 - 1
        pictures = torch.rand(1, case.references, 3, case.size, case.size, dtype=dtype) * 2 - 1
    features = vae.encode_references(pictures) if case.references else None

    def encode() -> torch.Tensor:
        return (reconstruction.encode_in_blocks(vae, video) if case.streamed else vae.encode(video)).mean

    def decode() -> torch.Tensor:
        if case.streamed:
            return reconstruction.decode_in_blocks(vae, z, features)
        return vae.decode(z, reference_features=features)

    z = encode()
    encode_s, encode_mib = time_and_memory(encode, device, case.repeats)
    decode()
    decode_s, decode_mib = time_and_memory(decode, device, case.repeats)
    return Cost(encode_s=encode_s, decode_s=decode_s, encode_mib=encode_mib, decode_mib=decode_mib)


def time_and_memory(
    run: Callable[[], torch.Tensor], device: torch.device, repeats: int
) -> tuple[float, float]:
    """Median seconds of a run, and the peak memory of all runs in MiB above the memory in use before them."""
    before = _memory(device, peak=False)
    _reset_peak(device)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times), max(0.0, _memory(device, peak=True) - before) / 2**20


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def _memory(device: torch.device, *, peak: bool) -> float:
    """Bytes that tensors take (GPU) or that are resident (CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device))
    field = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def report(results: Sequence[tuple[Case, Cost]], where: str) -> Report:
    """One row per case; `where` is the hardware."""
    rows, metrics = [], {}
    for case, cost in results:
        how = "blocks" if case.streamed else "whole"
        case_cells = [f"{case.size}²", f"{case.num_frames}", f"{case.references}", how]
        encoding = [f"{cost.encode_s:.3f}", f"{cost.encode_mib:.0f}"]
        decoding = [
            f"{cost.decode_s:.3f}",
            f"{cost.decode_mib:.0f}",
            f"{case.num_frames / cost.decode_s:.1f}",
        ]
        rows.append(case_cells + encoding + decoding)
        name = f"{case.size}_f{case.num_frames}_m{case.references}_{how}"
        metrics |= {f"{quantity}/{name}": value for quantity, value in asdict(cost).items()}
    header = ["size", "frames", "M", "through", "encode s", "encode MiB", "decode s", "decode MiB"]
    return Report(
        text=f"Hardware: {where}. Medians; memory above what weights and clip take.\n\n"
        + table([*header, "decoded frames/s"], rows),
        records=[{**asdict(case), **asdict(cost)} for case, cost in results],
        metrics=metrics,
    )

"""Time and peak memory of the VAE by picture size, length and number of references.

Each case runs in a process of its own, so that no earlier case's memory is counted, or reused, in the next. Random
weights and pictures do: neither time nor memory depends on them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from pipelines import reconstruction
from portrait import presets
from portrait.vae import VideoVAE


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured."""

    preset: str
    size: int
    """Side of the pictures in pixels."""
    num_frames: int
    """1+T frames, T a multiple of 4."""
    references: int
    """Number of references M."""
    streamed: bool
    """Whether the clip goes through in blocks of 16 frames with carried state, or whole."""
    device: str
    """`cpu` or `cuda`; bfloat16 on the latter, as in training."""
    repeats: int
    """Runs, of which the median counts; one more before them is not counted."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a case costs."""

    case: Case
    encode_s: float
    """Seconds for encoding the clip."""
    decode_s: float
    """Seconds for decoding it; the references' features are there already."""
    encode_mib: float
    """Highest memory while encoding, in MiB over what the weights and the clip take."""
    decode_mib: float
    """The same for decoding, whose result is the clip again."""

    @property
    def decode_fps(self) -> float:
        """Decoded frames a second; 25 are real time."""
        return self.case.num_frames / self.decode_s


def measure_all(cases: Sequence[Case]) -> Iterator[Cost]:
    """Costs of the cases in their order, as they come.

    Raises:
        ValueError: a case's numbers do not fit its preset.
        concurrent.futures.process.BrokenProcessPool: a case needed more memory than there is.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        yield from processes.map(measure, cases)


@torch.no_grad()
def measure(case: Case) -> Cost:
    """The cost of one case, in this process."""
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
    encode_s, encode_mib = cost_of(encode, device, case.repeats)
    decode()
    decode_s, decode_mib = cost_of(decode, device, case.repeats)
    return Cost(case=case, encode_s=encode_s, decode_s=decode_s, encode_mib=encode_mib, decode_mib=decode_mib)


def cost_of(run: Callable[[], torch.Tensor], device: torch.device, repeats: int) -> tuple[float, float]:
    """Median seconds and peak MiB over the start."""
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
    wanted = "VmHWM:" if peak else "VmRSS:"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(wanted):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {wanted}")


def markdown(costs: Sequence[Cost], hardware: str) -> str:
    """A table, one row a case."""
    lines = [
        f"Hardware: {hardware}. Medians; memory over what weights and clip take.",
        "",
        "| size | frames | M | through | encode s | encode MiB | decode s | decode MiB | decoded frames/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        case = cost.case
        how = "blocks" if case.streamed else "whole"
        lines.append(
            f"| {case.size}² | {case.num_frames} | {case.references} | {how} | {cost.encode_s:.3f} | "
            f"{cost.encode_mib:.0f} | {cost.decode_s:.3f} | {cost.decode_mib:.0f} | {cost.decode_fps:.1f} |"
        )
    return "\n".join(lines) + "\n"


def as_records(costs: Sequence[Cost]) -> list[dict[str, float | int | str | bool]]:
    """Flat dictionaries, one a case."""
    return [{**asdict(cost.case), **{k: v for k, v in asdict(cost).items() if k != "case"}} for cost in costs]

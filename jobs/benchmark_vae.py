"""Time and peak memory of the VAE: `python -m jobs.benchmark_vae --preset tiny --sizes 128 256 --frames 17 73`."""

from __future__ import annotations

import itertools
import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from jobs import command_line, hardware
from pipelines import benchmark
from portrait import presets, tracking


@dataclass(frozen=True, kw_only=True)
class BenchmarkVAE:
    """Measures encoding and decoding at every combination of size, length and number of references."""

    preset: str = "tiny"
    """Preset of the system."""
    sizes: tuple[int, ...] = ()
    """Sides of the pictures in pixels; the preset's own where not given."""
    frames: tuple[int, ...] = (1, 17, 73)
    """Lengths of the clip, 1 + multiples of 4."""
    references: tuple[int, ...] = (1,)
    """Numbers of references."""
    repeats: int = 5
    """Runs of each case; their median counts."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes a GPU when there is one."""
    output: Path | None = None
    """Folder for benchmark_vae.md, benchmark_vae.json and the tracking store; runs/PRESET where not given."""


def main(config: BenchmarkVAE) -> list[benchmark.Cost]:
    """Measures, shows each case as it is done, and writes the table.

    Raises:
        ValueError: a flag is out of range, or a case needed more memory than there is; those before it are written.
    """
    cases = cases_of(config)
    costs: list[benchmark.Cost] = []
    try:
        bar = tqdm(benchmark.measure_all(cases), total=len(cases), unit="case")
        for cost in bar:
            costs.append(cost)
            bar.set_postfix_str(f"decoded {cost.decode_fps:.1f} frames/s")
    except BrokenProcessPool as error:
        raise ValueError(
            f"{cases[len(costs)]} was killed, most likely for want of memory: leave it out; "
            f"the {len(costs)} cases before it were measured"
        ) from error
    finally:
        if costs:
            publish(config, costs)
    return costs


def cases_of(config: BenchmarkVAE) -> list[benchmark.Case]:
    """All combinations, each clip whole and in blocks.

    Raises:
        ValueError: a number is out of range.
    """
    preset = presets.load(config.preset)
    sizes, factor = config.sizes or (preset.video.size,), preset.vae.space_factor
    for size in sizes:
        if size < 1 or size % factor:
            raise ValueError(f"--sizes must be multiples of {factor}, got {size}")
    for frames in config.frames:
        if frames < 1 or (frames - 1) % preset.vae.time_factor:
            raise ValueError(f"--frames must be 1 + multiples of {preset.vae.time_factor}, got {frames}")
    if min(config.references, default=0) < 0 or config.repeats < 1:
        raise ValueError("--references must not be negative, --repeats must be positive")
    found = torch.cuda.is_available()
    if config.device == "cuda" and not found:
        raise ValueError("--device cuda: this machine has no GPU that PyTorch can use")
    device = "cuda" if found and config.device != "cpu" else "cpu"
    return [
        benchmark.Case(
            preset=config.preset,
            size=size,
            num_frames=frames,
            references=references,
            streamed=streamed,
            device=device,
            repeats=config.repeats,
        )
        for size, frames, references, streamed in itertools.product(
            sizes, config.frames, config.references, (False, True)
        )
    ]


def publish(config: BenchmarkVAE, costs: list[benchmark.Cost]) -> None:
    """Writes the files and logs them with every figure."""
    folder = config.output or Path("runs") / config.preset
    folder.mkdir(parents=True, exist_ok=True)
    where = (
        hardware.described("cuda")
        if costs[0].case.device == "cuda"
        else f"{torch.get_num_threads()} CPU threads"
    )
    text = benchmark.markdown(costs, where)
    records = benchmark.as_records(costs)
    (folder / "benchmark_vae.md").write_text(text)
    (folder / "benchmark_vae.json").write_text(json.dumps(records, indent=1))
    run = tracking.start_run(
        "portrait", "benchmark_vae", {"preset": config.preset, "hardware": where}, output=folder
    )
    for cost in costs:
        case = cost.case
        name = f"{case.size}_m{case.references}_{'blocks' if case.streamed else 'whole'}"
        figures = {"encode_s": cost.encode_s, "decode_s": cost.decode_s}
        figures |= {"encode_mib": cost.encode_mib, "decode_mib": cost.decode_mib}
        run.log_metrics({f"{figure}/{name}": value for figure, value in figures.items()}, case.num_frames)
    run.log_artifact(folder / "benchmark_vae.md")
    run.finish()
    print(text)


if __name__ == "__main__":
    command_line.run(main, BenchmarkVAE)

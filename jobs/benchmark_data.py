"""How fast data is prepared and read: `python -m jobs.benchmark_data --source FOLDER --preset tiny --output DIR`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tqdm import tqdm

from data_prep import benchmark as chain_benchmark
from data_prep import benchmark_tables
from data_prep.cut_settings import CutSettings
from data_prep.sources import FolderSource
from data_prep.transcoding import transcoder
from jobs import command_line, hardware
from pipelines import wait_benchmark
from pipelines.generator_task import GeneratorTask
from pipelines.latent_encoding import EncodeClips, EncoderSettings
from pipelines.training_settings import TrainingSettings
from pipelines.vae_task import VAETask
from portrait import cluster, presets, tracking
from portrait.storage import checkpoints, reading_benchmark
from portrait.storage.clips import ClipTable, commit_clips, write_clips
from portrait.storage.epoch_sampler import Draw
from portrait.storage.latents import LatentTable
from portrait.storage.starter_weights import starter_weights

Part = Literal["chain", "reading", "training"]
PARTS: tuple[Part, ...] = ("chain", "reading", "training")


@dataclass(frozen=True, kw_only=True)
class BenchmarkData:
    """Measures three things side by side: the chain from footage to table against FFmpeg alone; random windows from
    Lance, WebDataset shards and loose files; what a training step waits for its data.
    """

    source: Path | None = None
    """Folder of videos, or one video file, for `chain`."""
    preset: str = "tiny"
    """Preset whose picture size, clip length and models are used."""
    output: Path | None = None
    """Folder for benchmark_data.md, benchmark_data.json and the tracking store; runs/PRESET where not given."""
    parts: tuple[Part, ...] = PARTS
    """What to measure."""
    clips: Path | None = None
    """A clips table for `reading` and `training`; the clips that `chain` cuts where not given."""
    latents: Path | None = None
    """A latents table for the generator's `training`; without it the preset's starter weights encode the clips."""
    repeats: int = 5
    """Runs of each file, and of each store; medians count."""
    windows: int = 200
    """Windows read of each store and repeat."""
    batch_size: int = 8
    """Windows read at once."""
    steps: int = 60
    """Optimiser steps of each model's training, shared among its stages."""
    threads: int | None = None
    """Arithmetic threads of the training; the machine's cores where not given."""


@dataclass(kw_only=True)
class Found:
    """What was measured."""

    text: list[str] = field(default_factory=list)
    """Sections in Markdown."""
    figures: dict[str, float] = field(default_factory=dict)
    """By MLflow's names."""
    records: dict[str, Any] = field(default_factory=dict)
    """By part: everything, for JSON."""


def main(config: BenchmarkData) -> Found:
    """Measures, shows how far it is, and writes the tables.

    Raises:
        FileNotFoundError: the footage or a table is not there.
        ValueError: a number is out of range, or no file gave a clip.
    """
    check(config)
    folder = (config.output or Path("runs") / config.preset).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    where = f"{hardware.described('cpu')}, {cluster.threads_per_worker(1)} cores"
    params = {**asdict(config), "hardware": where}
    run = tracking.start_run("portrait", "benchmark_data", params, output=folder)
    found = Found(text=[f"Hardware: {where}. Preset `{config.preset}`.\n"])
    with run, TemporaryDirectory(prefix="benchmark_data_", dir=folder) as name:
        scratch = Path(name)
        clips = str(config.clips.absolute()) if config.clips else str(scratch / "clips.lance")
        if "chain" in config.parts:
            rows = measure_chain(config, found)
            commit_clips(str(scratch / "clips.lance"), write_clips(str(scratch / "clips.lance"), rows))
        if "reading" in config.parts:
            measure_reading(config, clips, scratch, found)
        if "training" in config.parts:
            measure_training(config, clips, scratch, run, found)
        publish(found, folder, run)
    return found


def check(config: BenchmarkData) -> None:
    """Refuses what cannot be measured, before anything is.

    Raises:
        FileNotFoundError: a table is not there.
        ValueError: a number is out of range, or something is missing for a part.
    """
    for name, least in (("repeats", 1), ("windows", 1), ("batch_size", 1), ("steps", 2), ("threads", 1)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    presets.load(config.preset)
    if not config.parts:
        raise ValueError(f"--parts: name at least one of {', '.join(PARTS)}")
    if "chain" in config.parts and config.source is None:
        raise ValueError(
            "--source: a folder of videos is needed to measure the chain (or leave it out of --parts)"
        )
    if config.clips is not None:
        ClipTable.open(str(config.clips))
    elif "chain" not in config.parts:
        raise ValueError("--clips: a clips table is needed where the chain, which cuts one, is not measured")
    if config.latents is not None:
        LatentTable.open(str(config.latents))


# ---------------------------------------------------------------- the three parts


def measure_chain(config: BenchmarkData, found: Found) -> list[dict[str, Any]]:
    """Footage to rows against FFmpeg alone; returns the rows."""
    assert config.source is not None
    video = presets.load(config.preset).video
    settings = CutSettings(size=video.size, max_clip_seconds=video.max_clip_seconds)
    transcode, ffmpeg = transcoder(settings)
    files = FolderSource(folder=config.source).files()
    costs: list[chain_benchmark.FileCost] = []
    bar = tqdm(
        chain_benchmark.measure_all(files, settings, transcode, repeats=config.repeats),
        "the chain and FFmpeg",
        len(files),
        unit="file",
    )
    for cost in bar:
        costs.append(cost)
        bar.set_postfix_str(Path(cost.footage.path).name)
    ratios = {clock: chain_benchmark.ratio(costs, clock) for clock in ("cpu", "wall")}
    found.text += ["## The chain against FFmpeg alone\n", benchmark_tables.against_ffmpeg(costs, ffmpeg)]
    found.text += ["## Where the chain's time goes\n", benchmark_tables.by_stage(costs)]
    found.figures |= {f"chain/ratio_{clock}": ratio.median for clock, ratio in ratios.items()}
    for stage in (*chain_benchmark.STAGES, "the rest"):
        name = stage.replace(" ", "_").replace(".", "").lower()
        found.figures[f"chain/seconds/{name}"] = sum(cost.stages[stage] for cost in costs)
    found.records["chain"] = {
        "ffmpeg": ffmpeg,
        "ratios": {clock: asdict(ratio) for clock, ratio in ratios.items()},
        "files": benchmark_tables.as_records(costs),
    }
    return [row for cost in costs for row in cost.rows]


def measure_reading(config: BenchmarkData, clips: str, scratch: Path, found: Found) -> None:
    """Random windows from a table, shards and loose files of the same clips."""
    size = presets.load(config.preset).video.size
    settings = reading_benchmark.WindowSettings(size=size, batch_size=config.batch_size)
    stores = reading_benchmark.open_stores(clips, scratch, settings)
    num_clips = len(reading_benchmark.windows_of(ClipTable.open(clips), settings))
    at_random = {name: opens() for name, opens in stores.items() if name != reading_benchmark.STREAM}
    assert reading_benchmark.same_windows(at_random, [Draw(0, row) for row in range(min(num_clips, 8))])
    with tqdm(desc="reading windows", total=config.repeats, unit="repeat") as bar:
        readings = reading_benchmark.compare(
            stores,
            num_clips,
            settings,
            windows=config.windows,
            repeats=config.repeats,
            progress=bar.update,
        )
    found.text += ["## Random windows\n", reading_benchmark.markdown(readings, settings)]
    for reading in readings:
        name = "".join(letter if letter.isalnum() else "_" for letter in reading.store)
        found.figures[f"reading/windows_per_second/{name}"] = reading.rate
    found.records["reading"] = {
        "clips": num_clips,
        **asdict(settings),
        "stores": [asdict(reading) for reading in readings],
    }


def measure_training(
    config: BenchmarkData, clips: str, scratch: Path, run: tracking.Run, found: Found
) -> None:
    """What the steps of a short training of both models wait."""
    preset = presets.load(config.preset)
    threads = config.threads or cluster.threads_per_worker(1)
    stages = preset.vae_training.stages
    short = tuple(dataclasses.replace(s, steps=max(2, config.steps // len(stages))) for s in stages)
    vae = VAETask(
        preset=preset,
        clips=clips,
        clips_version=ClipTable.open(clips).version,
        training=dataclasses.replace(preset.vae_training, stages=short),
        evaluation_clips=1,
        evaluation_frames=5,
    )
    settings = TrainingSettings(output=str(scratch / "vae"), workers=0, threads=threads, parent=run)
    waits = [wait_benchmark.measure(f"VAE, {', '.join(s.name for s in vae.stages)}", vae, settings)]
    latents = str(config.latents.absolute()) if config.latents else _encoded(config, clips, scratch, threads)
    if latents is not None:
        generator = GeneratorTask(
            preset=preset,
            latents=latents,
            latents_version=LatentTable.open(latents).version,
            training=dataclasses.replace(preset.generator_training, steps=config.steps),
            evaluation_windows=1,
        )
        settings = dataclasses.replace(settings, output=str(scratch / "generator"))
        waits.append(wait_benchmark.measure("generator", generator, settings))
    found.text += [
        f"## What a training step waits for its data\n\nOne worker, {threads} arithmetic threads. The first step of a "
        "stage is not counted: nothing is read ahead of it.\n",
        wait_benchmark.markdown(waits),
    ]
    if latents is None:
        found.text.append("The generator was not measured: needs --latents (no starter weights ship).\n")
    for wait, kind in zip(waits, ("vae", "generator"), strict=False):
        found.figures[f"training/wait_share/{kind}"] = wait.share
        found.figures[f"training/wait_seconds/{kind}"] = wait.wait_s
    found.records["training"] = [asdict(wait) | {"share": wait.share} for wait in waits]


def _encoded(config: BenchmarkData, clips: str, scratch: Path, threads: int) -> str | None:
    """A latents table of the clips by the preset's starter weights; None where none ship."""
    weights = starter_weights(config.preset)
    if weights is None:
        return None
    encode = EncodeClips(
        EncoderSettings(
            clips=clips,
            clips_version=ClipTable.open(clips).version,
            vae_file=str(weights.vae),
            preset=checkpoints.read_header(weights.vae).preset,
            device="cpu",
            threads=threads,
        )
    )
    uri = str(scratch / "latents.lance")
    rows = [encode.encode(index) for index in tqdm(range(len(encode.rows)), "encoding clips", unit="clip")]
    LatentTable.append(uri, rows)
    return uri


def publish(found: Found, folder: Path, run: tracking.Run) -> None:
    """Writes the files and logs them with the figures."""
    text = "\n".join(found.text)
    (folder / "benchmark_data.md").write_text(text)
    (folder / "benchmark_data.json").write_text(json.dumps(found.records, indent=1))
    run.log_metrics(found.figures, 0)
    run.log_artifact(folder / "benchmark_data.md")
    run.log_artifact(folder / "benchmark_data.json")
    print(text)


if __name__ == "__main__":
    command_line.run(main, BenchmarkData)

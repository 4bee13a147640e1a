"""The whole chain on one machine: `python -m jobs.demo`, which is what `make demo` runs.

raw video → clips table → VAE → latents table → generator → evaluation → streaming application → a client that sends
unseen speech in real time. Each step calls the `main` of a job with the configuration that a user would give on the
command line.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import serve

from data_prep.sources import open_source
from jobs import (
    command_line,
    demo_material,
    demo_result,
    encode_latents,
    evaluate,
    prepare_data,
    train_generator,
    train_vae,
)
from jobs.step_report import Step, StepError, StepReport
from portrait import cluster, presets, tracking
from portrait.storage.checkpoints import load_vae
from portrait.storage.starter_weights import starter_weights
from portrait.timing import SAMPLE_RATE
from serve_apps import client, portrait_stream
from serve_apps.arguments import StreamArgs

STEPS = 10
MARKER = ".portrait-demo"
"""Marks a folder as created by the demo; the demo replaces no other folder."""
SYNTHETIC = "synthetic:10x3x4@700000"
"""Ten synthetic heads that the starter weights were not trained on, three clips of four seconds each."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Runs the whole chain with a small preset on this machine and reports what came out.

    Without --source, synthetic talking heads are rendered that the starter weights were not trained on.
    """

    source: Path | None = None
    """Folder of videos of people talking; by default synthetic talking heads are rendered."""
    output: Path = Path("runs/demo")
    """Folder for all results; those of an earlier demo are replaced."""
    from_scratch: bool = False
    """Train from random weights instead of from the starter weights."""
    preset: str = "tiny"
    """Preset that gives the sizes of the models and their training."""
    workers: int = 2
    """Number of Ray Train workers."""
    vae_minutes: float = 2.5
    """Training time of the VAE in minutes."""
    generator_minutes: float = 2.0
    """Training time of the generator in minutes."""
    speech_seconds: float = 8.0
    """Length in seconds of the speech that is streamed at the end."""
    identity_pattern: str | None = None
    """Regular expression for the part of a path that names the person; see `python -m jobs.prepare_data --help`."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Absolute paths of the results."""

    folder: Path
    """The output folder."""

    @property
    def clips(self) -> str:
        return str(self.folder / "clips.lance")

    @property
    def latents(self) -> str:
        return str(self.folder / "latents.lance")

    @property
    def vae(self) -> Path:
        return self.folder / "vae.safetensors"

    @property
    def generator(self) -> Path:
        return self.folder / "generator.safetensors"

    @property
    def video(self) -> Path:
        return self.folder / "portrait.mp4"

    @property
    def sheet(self) -> Path:
        return self.folder / "contact_sheet.png"


def main(config: Demo) -> None:
    """Runs all steps. If one fails, prints one line, writes the traceback to error.log and exits."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("OMP_NUM_THREADS", "1"),
        ("RAY_SERVE_LOG_TO_STDERR", "0"),
    ):
        os.environ.setdefault(name, value)
    paths = prepare_folder(config)
    report = StepReport(STEPS)
    try:
        run_steps(config, paths, report)
    except StepError as error:
        log = paths.folder / "error.log"
        log.write_text("".join(traceback.format_exception(error)))
        print(f"error: {error} (traceback in {log})", file=sys.stderr)
        raise SystemExit(2 if error.is_user_error else 1) from None
    report.print()
    print_outputs(paths)


def prepare_folder(config: Demo) -> Paths:
    """Creates an empty output folder, replacing that of an earlier demo.

    Raises:
        ValueError: the preset is unknown or has no starter weights, or the folder was not created by the demo.
        FileNotFoundError: the source does not exist.
    """
    presets.load(config.preset)
    if not config.from_scratch and starter_weights(config.preset) is None:
        raise ValueError(
            f"preset {config.preset!r} has no starter weights: use --from-scratch (FROM_SCRATCH=1 with make)"
        )
    if config.source is not None and not config.source.exists():
        raise FileNotFoundError(f"--source {config.source}: no such folder")
    folder = config.output.absolute()
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise ValueError(
                f"--output {config.output} contains files that are not from a demo: give another folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return Paths(folder=folder)


def run_steps(config: Demo, paths: Paths, report: StepReport) -> None:
    """Runs the steps in order and logs the results to MLflow."""
    with report.step("start Ray") as step:
        cluster.connect(max(2, config.workers))
        run = tracking.start_run("portrait", "demo", asdict(config), output=paths.folder)
        step.note(f"local Ray with {cluster.available_cores()} cores")

    prepare(config, paths, report)
    train(config, paths, report)

    with report.step("evaluate") as step:
        metrics = evaluate.main(
            evaluate.Evaluate(
                clips=paths.clips,
                vae=paths.vae,
                # The mouth opening is measured on synthetic heads; models trained on real footage never saw one.
                generator=None if config.source else paths.generator,
                output=paths.folder,
                count=5,
                subjects=3,
            )
        )
        numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
        run.log_metrics({f"eval/{name}": value for name, value in numbers.items()}, 0)
        for line in metric_lines(metrics):
            step.note(line)

    stream(config, paths, report, run)
    run.finish()


def prepare(config: Demo, paths: Paths, report: StepReport) -> None:
    """Lists or renders the footage and writes the clips table."""
    source = str(config.source.absolute()) if config.source else SYNTHETIC
    with report.step("footage") as step:
        # The next step opens the same source again and finds the clips that are rendered here.
        files = open_source(
            source, render_folder=paths.folder / "synthetic", identity_pattern=config.identity_pattern
        ).files()
        people = len({file.identity for file in files})
        step.note(f"{len(files)} {'files' if config.source else 'rendered clips'} of {people} people")

    with report.step("clips table (Ray Data → Lance)") as step:
        done = prepare_data.ingest(
            prepare_data.PrepareData(
                source=source,
                preset=config.preset,
                output=paths.folder,
                clips=paths.clips,
                identity_pattern=config.identity_pattern,
            )
        )
        seconds = sum(clip.seconds for clip in done.clips)
        step.note(f"{done.table_rows} clips, {seconds:.0f} s; {len(done.rejects)} rejected")


def train(config: Demo, paths: Paths, report: StepReport) -> None:
    """Trains the VAE, encodes the clips to latents and trains the generator on them."""
    init = "none" if config.from_scratch else "starter"
    last_stage = len(presets.load(config.preset).vae_training.stages) - 1
    with report.step("train the VAE (Ray Train, ZeRO-2)") as step:
        result = train_vae.main(
            train_vae.TrainVAE.of_preset(
                config.preset,
                clips=paths.clips,
                output=paths.folder,
                workers=config.workers,
                zero_stage=2,
                init=init,
                minutes=config.vae_minutes,
                # The learning rates of training from scratch would undo weights that are already good.
                stages=None if config.from_scratch else (last_stage,),
                learning_rate=None if config.from_scratch else 1e-4,
            )
        )
        step.note(f"{result.steps} steps from {'random' if config.from_scratch else 'starter'} weights")

    with report.step("latents table") as step:
        encoded = encode_latents.main(
            encode_latents.EncodeLatents(
                clips=paths.clips, vae=paths.vae, latents=paths.latents, output=paths.folder
            )
        )
        step.note(f"{encoded.table.num_rows} rows")

    with report.step("train the generator (Ray Train, ZeRO-2)") as step:
        result = train_generator.main(
            train_generator.TrainGenerator.of_preset(
                config.preset,
                latents=paths.latents,
                output=paths.folder,
                workers=config.workers,
                zero_stage=2,
                init=init,
                minutes=config.generator_minutes,
                learning_rate=None if config.from_scratch else 2e-4,
            )
        )
        step.note(f"{result.steps} steps from {'random' if config.from_scratch else 'starter'} weights")


def stream(config: Demo, paths: Paths, report: StepReport, run: tracking.Run) -> None:
    """Starts the application, streams unseen speech through it and checks the video that came back."""
    with report.step("start the application (Ray Serve)") as step:
        args = StreamArgs(
            preset=config.preset,
            vae=str(paths.vae),
            generator=str(paths.generator),
            portraits=str(paths.folder / "portraits.lance"),
        )
        url = portrait_stream.start(args, port=free_port())
        step.note(f"ingress → encoder → generator → decoder at {url}")
    try:
        with report.step("stream unseen speech in real time") as step:
            material = demo_material.choose(
                paths.clips,
                paths.folder,
                size=presets.load(config.preset).video.size,
                seconds=config.speech_seconds,
                synthetic=config.source is None,
            )
            portrait = client.register_portrait(url, material.pictures, name="demo")
            streamed = asyncio.run(client.stream_file(url, portrait, material.wav, paths.video))
            step.note(
                f"first frames after {streamed.first_media_s:.2f} s, median latency of a block "
                f"{streamed.median_latency_ms:.0f} ms, {streamed.stalls} stalls"
            )
            metrics = {
                "stream/first_media_s": streamed.first_media_s,
                "stream/stalls": float(streamed.stalls),
            }
    finally:
        serve.shutdown()
    with report.step("check the video") as step:
        metrics |= check(config, paths, material, step)
        run.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)}, 0)
        for path in (paths.video, paths.sheet):
            run.log_artifact(path)


def check(config: Demo, paths: Paths, material: demo_material.Material, step: Step) -> dict[str, float]:
    """Checks the streamed file, measures the mouth opening and draws the contact sheet; returns the metrics."""
    if material.split == "train":
        step.note("too few people to hold one out: the person of this portrait is in the training data")
    step.note(demo_result.check_video(paths.video, len(material.audio) / SAMPLE_RATE))
    title = f"preset {config.preset}, {'synthetic heads' if material.rendered else 'own footage'}"
    frames = demo_result.draw_sheet(paths.sheet, paths.video, material, load_vae(paths.vae), title)
    mouth = demo_result.follow(frames, material)
    against = (
        "the true opening"
        if material.rendered
        else "the opening measured in the original video (indicative only)"
    )
    step.note(
        f"mouth opening against {against}: correlation {mouth.right:.2f} with the right speech, "
        f"{mouth.wrong:.2f} with other speech"
    )
    return {"mouth/right": mouth.right, "mouth/wrong": mouth.wrong}


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Summary of the evaluation: PSNR by number of references, LPIPS and, if measured, how the mouth follows."""
    psnr = ", ".join(f"M={count} {metrics[f'psnr_m{count}']:.2f} dB" for count in range(4))
    lines = [f"PSNR on held-out clips: {psnr}", f"LPIPS {metrics['lpips']}"]
    if "follow_right" in metrics:
        lines.append(
            f"mouth opening against the true one, unseen synthetic heads: correlation {metrics['follow_right']:.2f} "
            f"with the right speech, {metrics['follow_wrong']:.2f} with other speech "
            f"({metrics['follow_ceiling']:.2f} for the VAE's reconstruction)"
        )
    return lines


def free_port() -> int:
    """A free TCP port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def print_outputs(paths: Paths) -> None:
    """Prints where the results are and how to open the MLflow runs."""
    uri = tracking.tracking_uri(paths.folder)
    shown = f"{Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {uri}"
    for name, value in (
        ("video", paths.video),
        ("contact sheet", paths.sheet),
        ("weights", f"{paths.vae}, {paths.generator}"),
        ("tables", f"{paths.clips}, {paths.latents}"),
        ("MLflow", f"{uri}   (to open: {shown})"),
    ):
        print(f"{name:14} {value}")


if __name__ == "__main__":
    command_line.run(main, Demo)

"""The whole chain on one machine: `python -m jobs.demo`, which is what `make demo` runs.

raw video → clips table → VAE → latents table → generator → evaluation → the streaming application → a client that
speaks a WAV it has never sent before at the pace of real time. Each step is the job of that name, called with the
flags a user would give it.
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
"""File that marks a folder as made by the demo, so that only such a folder is ever replaced."""
SYNTHETIC = "synthetic:10x3x4@700000"
"""Ten people whose numbers the starter weights were not trained on, three clips of four seconds each."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Runs the whole chain with a small preset on this machine, and shows what came out.

    Without --source the footage is rendered: synthetic talking heads that the starter weights have not seen.
    """

    source: Path | None = None
    """Folder of videos of people talking; synthetic talking heads where not given."""
    output: Path = Path("runs/demo")
    """Folder of everything that is made; what an earlier demo left there is replaced."""
    from_scratch: bool = False
    """Trains from random weights instead of going on from the starter weights."""
    preset: str = "tiny"
    """Preset of the system."""
    workers: int = 2
    """Ray Train workers."""
    vae_minutes: float = 2.5
    """Time for the VAE's training."""
    generator_minutes: float = 2.0
    """Time for the generator's training."""
    speech_seconds: float = 8.0
    """Length of the speech at the end."""
    identity_pattern: str | None = None
    """Which part of a file's path names the person; see `python -m jobs.prepare_data --help`."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where things are, all absolute."""

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
    """Runs all steps; a step that fails ends the demo with one line and leaves its traceback in a file."""
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
    """An empty output folder.

    Raises:
        ValueError: the preset is unknown or ships no starter weights, or the folder holds something else.
        FileNotFoundError: the source is not there.
    """
    presets.load(config.preset)
    if not config.from_scratch and starter_weights(config.preset) is None:
        raise ValueError(
            f"no starter weights ship with preset {config.preset!r}: use --from-scratch (FROM_SCRATCH=1)"
        )
    if config.source is not None and not config.source.exists():
        raise FileNotFoundError(f"--source {config.source}: no such folder")
    folder = config.output.absolute()
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise ValueError(
                f"--output {config.output} holds something that no demo made; give another folder"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    return Paths(folder=folder)


def run_steps(config: Demo, paths: Paths, report: StepReport) -> None:
    """The chain, step by step."""
    with report.step("start Ray") as step:
        cluster.connect(max(2, config.workers))
        run = tracking.start_run("portrait", "demo", asdict(config), output=paths.folder)
        step.note(f"a local Ray on {cluster.available_cores()} cores")

    prepare(config, paths, report)
    train(config, paths, report)

    with report.step("evaluate") as step:
        metrics = evaluate.main(
            evaluate.Evaluate(
                clips=paths.clips,
                vae=paths.vae,
                # Only on rendered heads is the mouth's true opening known.
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
    """Footage and the clips table."""
    source = str(config.source.absolute()) if config.source else SYNTHETIC
    with report.step("footage") as step:
        # Rendered here and found again by the next step; files that are there already are only listed.
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
        step.note(f"{done.table_rows} clips, {seconds:.0f} s; {len(done.rejects)} left out")


def train(config: Demo, paths: Paths, report: StepReport) -> None:
    """VAE, latents, generator."""
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
                # Weights that are good already are only moved a little: the rates of a start would undo them.
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
    """The application, the client, and what came back."""
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
            told = asyncio.run(client.stream_file(url, portrait, material.wav, paths.video))
            step.note(
                f"first picture after {told.first_media_s:.2f} s, median latency of a block "
                f"{told.median_latency_ms:.0f} ms, {told.stalls} stalls"
            )
            metrics = {"stream/first_media_s": told.first_media_s, "stream/stalls": float(told.stalls)}
    finally:
        serve.shutdown()
    with report.step("look at the video") as step:
        metrics |= look(config, paths, material, step)
        run.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)}, 0)
        for path in (paths.video, paths.sheet):
            run.log_artifact(path)


def look(config: Demo, paths: Paths, material: demo_material.Material, step: Step) -> dict[str, float]:
    """Checks the streamed file, measures its mouth and draws the contact sheet."""
    if material.split == "train":
        step.note("too few people to hold one out: this portrait is of someone in the training data")
    step.note(demo_result.check_video(paths.video, len(material.audio) / SAMPLE_RATE))
    title = f"preset {config.preset}, {'synthetic heads' if material.rendered else 'own footage'}"
    frames = demo_result.draw_sheet(paths.sheet, paths.video, material, load_vae(paths.vae), title)
    mouth = demo_result.follow(frames, material)
    against = "rendered truth" if material.rendered else "what is measured in the original (indicative)"
    step.note(
        f"mouth's opening against {against}: correlation {mouth.right:.2f} with the right speech, "
        f"{mouth.wrong:.2f} with other speech"
    )
    return {"mouth/right": mouth.right, "mouth/wrong": mouth.wrong}


def metric_lines(metrics: Mapping[str, Any]) -> list[str]:
    """The evaluation in words: PSNR against the number of references, LPIPS, and the mouth where it was measured."""
    psnr = ", ".join(f"M={count} {metrics[f'psnr_m{count}']:.2f} dB" for count in range(4))
    lines = [f"PSNR on held-out clips: {psnr}", f"LPIPS {metrics['lpips']}"]
    if "follow_right" in metrics:
        lines.append(
            f"mouth's opening against rendered truth, people never seen: correlation {metrics['follow_right']:.2f} "
            f"with the right speech, {metrics['follow_wrong']:.2f} with other speech "
            f"({metrics['follow_ceiling']:.2f} is what the VAE's pictures allow)"
        )
    return lines


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def print_outputs(paths: Paths) -> None:
    """What was made, and how to see the runs."""
    uri = tracking.tracking_uri(paths.folder)
    shown = f"{Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {uri}"
    for name, value in (
        ("video", paths.video),
        ("contact sheet", paths.sheet),
        ("weights", f"{paths.vae}, {paths.generator}"),
        ("tables", f"{paths.clips}, {paths.latents}"),
        ("MLflow", f"{uri}   (to look: {shown})"),
    ):
        print(f"{name:14} {value}")


if __name__ == "__main__":
    command_line.run(main, Demo)

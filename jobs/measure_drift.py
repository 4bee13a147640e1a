"""Measures drift over minutes: `python -m jobs.measure_drift --vae FILE --generator FILE [FILE …] --minutes 10`."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path
from typing import Literal

import numpy as np

from jobs import command_line, hardware
from pipelines import drift
from pipelines.evaluation import UNSEEN_IDENTITIES
from portrait import tracking
from portrait.faces import crop_portrait
from portrait.generator import SamplingConfig
from portrait.media.audio import read_audio
from portrait.media.contact_sheet import SheetRow, contact_sheet, save_png
from portrait.media.image_file import read_image_file
from portrait.metrics.identity import embedder_of
from portrait.speech import build_speech_encoder
from portrait.speech.encoder import Samples
from portrait.storage import checkpoints
from portrait.storage.checkpoints import ModelHeader
from portrait.streaming import PortraitPipeline, prepare_portrait
from portrait.synthetic import render_clip
from portrait.synthetic.speech import Voice, synthesize

_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class MeasureDrift:
    """Streams for minutes and compares sharpness, colour and identity with the references every few seconds.

    Several generators that share a VAE are measured side by side on the same portrait and speech.
    """

    vae: Path
    """Weights of the VAE (safetensors)."""
    generator: tuple[Path, ...]
    """Weights of one or more generators (safetensors); the report names each by its folder and file."""
    portrait: tuple[Path, ...] = ()
    """Image files of the person; by default a synthetic head that no table contains."""
    audio: Path | None = None
    """Recording of speech, repeated as often as needed; by default synthetic speech."""
    minutes: float = 10.0
    """Length of the stream in minutes."""
    stretch_seconds: float = 10.0
    """Length of the stretches that are measured, in seconds."""
    steps: int | None = None
    """Euler steps of the sampler; by default the number stored with each generator."""
    window: Literal["restart", "rolling"] | None = None
    """What follows a full window: restart from its last block or roll; by default as stored with each generator."""
    identity_weights: Path | None = None
    """Face-recognition network (ONNX); identity is measured only if this and --detector are given."""
    detector: Path | None = None
    """YuNet face detector (ONNX), which finds the five facial landmarks."""
    device: hardware.Device = "auto"
    """Device to compute on; auto uses a GPU if there is one."""
    output: Path = Path("runs/drift")
    """Folder for drift.md, drift.json, the plots and, without a tracking server, the MLflow store."""


def main(config: MeasureDrift) -> dict[str, list[drift.Stretch]]:
    """Streams each generator and measures it, then writes and prints the report."""
    if config.minutes * 60 < 2 * config.stretch_seconds or config.stretch_seconds <= 0:
        raise ValueError(
            f"--minutes must cover at least two stretches of {config.stretch_seconds:g} s, got {config.minutes:g}"
        )
    embedder = embedder_of(config.identity_weights, config.detector)
    header = checkpoints.read_header(config.vae)
    preset = header.preset
    device = hardware.chosen(config.device)
    vae = checkpoints.load_vae(config.vae).to(device)
    headers = _headers(config, header.latents_version)
    size = preset.video.size
    portrait = prepare_portrait(vae, _pictures(config, size), vae_version=header.version, size=size)
    facts = {
        "VAE": f"{config.vae} {header.version}",
        "generators": ", ".join(f"{name} {made.version}" for name, (_, made) in headers.items()),
        "person": ", ".join(map(str, config.portrait)) or "a synthetic head that no table contains",
        "speech": str(config.audio or "synthetic"),
        "stream": f"{config.minutes:g} minutes, Euler steps: {config.steps or 'as stored with each generator'}, "
        f"window: {config.window or 'as stored with each generator'}",
        "hardware": hardware.described(device),
    }
    if embedder is not None:
        facts["identity"] = embedder.id
    config.output.mkdir(parents=True, exist_ok=True)
    run = tracking.start_run("portrait", "measure_drift", facts, output=config.output)
    measured: dict[str, list[drift.Stretch]] = {}
    with run:
        for name, (path, made) in headers.items():
            generator = checkpoints.load_generator(path, preset=preset).to(device)
            encoder = build_speech_encoder(preset.speech, device=device)
            pipeline = PortraitPipeline(encoder, generator, vae, _sampling(config, made))
            measured[name] = []
            for stretch in drift.measure_drift(
                pipeline,
                portrait,
                speech(config.audio),
                seconds=config.minutes * 60,
                stretch_s=config.stretch_seconds,
                embedder=embedder,
            ):
                measured[name].append(stretch)
                metrics = stretch.metrics()
                text = "  ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
                print(f"{name} {stretch.start_s:6.0f} s: {text}", flush=True)
                run.log_metrics(
                    {f"{metric}/{name}": value for metric, value in metrics.items()}, round(stretch.start_s)
                )
        rolling = {n for n, (_, made) in headers.items() if _sampling(config, made).window == "rolling"}
        text = drift.markdown(measured, facts, preset.generator, rolling=rolling)
        publish(config, run, measured, facts, text)
    return measured


def _pictures(config: MeasureDrift, size: int) -> list[np.ndarray]:
    """The references, each uint8 [size, size, 3]: cropped from the image files, or a rendered head."""
    if config.portrait:
        return [crop_portrait(read_image_file(path), size, name=str(path)) for path in config.portrait]
    return [render_clip(UNSEEN_IDENTITIES, 0.2, size=size).frames[0]]


def _headers(config: MeasureDrift, vae_version: str) -> dict[str, tuple[Path, ModelHeader]]:
    """Reads the generators' headers by the names used in the report and in MLflow; warns if the VAE is not theirs.

    Raises:
        ValueError: two generators would have the same name.
    """
    found: dict[str, tuple[Path, ModelHeader]] = {}
    for path in config.generator:
        # MLflow allows no other characters in the name of a metric.
        name = re.sub(r"[^\w.\- ]", "_", f"{path.absolute().parent.name} {path.stem}")
        if name in found:
            raise ValueError(
                f"--generator: {path} and {found[name][0]} would both be named {name!r}; rename one of the folders"
            )
        found[name] = path, checkpoints.read_header(path)
        trained_on = found[name][1].extra.get("vae_version")
        if trained_on != vae_version:
            print(
                f"warning: {path} was trained on latents of VAE {trained_on or '(not recorded)'}, not {vae_version}",
                file=sys.stderr,
            )
    return found


def _sampling(config: MeasureDrift, made: ModelHeader) -> SamplingConfig:
    """The sampling stored with a generator, with --steps and --window applied."""
    own = made.preset.sampling
    return dataclasses.replace(own, steps=config.steps or own.steps, window=config.window or own.window)


def speech(path: Path | None) -> Iterator[Samples]:
    """Yields pieces of speech without end: the recording over and over, or new words in one synthetic voice."""
    if path is not None:
        yield from repeat(read_audio(path))
    for number in count():
        yield synthesize(10.0, number, Voice()).audio


def publish(
    config: MeasureDrift,
    run: tracking.Run,
    measured: dict[str, list[drift.Stretch]],
    facts: dict[str, str],
    text: str,
) -> None:
    """Writes the report to the output folder, logs it to MLflow and prints it."""
    numbers = {
        name: [{"start_s": stretch.start_s, **stretch.metrics()} for stretch in stretches]
        for name, stretches in measured.items()
    }
    (config.output / "drift.md").write_text(text)
    (config.output / "drift.json").write_text(json.dumps({"facts": facts, "stretches": numbers}, indent=1))
    save_png(config.output / "drift.png", drift.plot(measured))
    rows = []
    for name, stretches in measured.items():
        chosen = np.linspace(0, len(stretches) - 1, min(_COLUMNS, len(stretches))).round().astype(int)
        captions = [f"{stretches[index].start_s:.0f} s" for index in chosen]
        rows.append(SheetRow(label=name, frames=[stretches[i].shown for i in chosen], captions=captions))
    save_png(config.output / "frames.png", contact_sheet(rows))
    for name in ("drift.md", "drift.json", "drift.png", "frames.png"):
        run.log_artifact(config.output / name)
    print(text)


if __name__ == "__main__":
    command_line.run(main, MeasureDrift)

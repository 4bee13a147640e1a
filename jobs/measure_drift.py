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
    """Streams for minutes and measures, every some seconds, sharpness, colour and identity against the references.

    Several generators of one VAE are measured on the same person and speech, side by side.
    """

    vae: Path
    """The VAE's file."""
    generator: tuple[Path, ...]
    """One or more generators' files; the table calls each by its folder and name."""
    portrait: tuple[Path, ...] = ()
    """Pictures of the person; a synthetic head that no table holds where none are given."""
    audio: Path | None = None
    """Speech, repeated as often as needed; synthetic speech where not given."""
    minutes: float = 10.0
    """Length of the stream."""
    stretch_seconds: float = 10.0
    """Length of what is measured at once."""
    steps: int | None = None
    """Euler steps; each generator's own number where not given."""
    window: Literal["restart", "rolling"] | None = None
    """After a full window: begin anew with the last block, or drop the first; each generator's own where not given."""
    identity_weights: Path | None = None
    """ONNX file of a face-recognition network; without it and --detector, identity is not measured."""
    detector: Path | None = None
    """ONNX file of YuNet, which finds the face's five points."""
    device: hardware.Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    output: Path = Path("runs/drift")
    """Folder for drift.md, drift.json, the pictures and the tracking store."""


def main(config: MeasureDrift) -> dict[str, list[drift.Stretch]]:
    """Streams, measures, writes the report and prints it."""
    if config.minutes * 60 < 2 * config.stretch_seconds or config.stretch_seconds <= 0:
        raise ValueError(
            f"--minutes must give two stretches of {config.stretch_seconds:g} s at least, got {config.minutes:g}"
        )
    embedder = embedder_of(config.identity_weights, config.detector)
    header = checkpoints.read_header(config.vae)
    preset, size = header.preset, header.preset.video.size
    device = hardware.chosen(config.device)
    vae = checkpoints.load_vae(config.vae).to(device)
    headers = _headers(config, header.version)
    if config.portrait:
        pictures = [crop_portrait(read_image_file(path), size, name=str(path)) for path in config.portrait]
    else:
        pictures = [render_clip(UNSEEN_IDENTITIES, 0.2, size=size).frames[0]]
    portrait = prepare_portrait(vae, pictures, vae_version=header.version, size=size)
    facts = {
        "VAE": f"{config.vae} {header.version}",
        "generators": ", ".join(f"{name} {made.version}" for name, (_, made) in headers.items()),
        "person": ", ".join(map(str, config.portrait)) or "a synthetic head that no table holds",
        "speech": str(config.audio or "synthetic"),
        "stream": f"{config.minutes:g} minutes, {config.steps or 'their own'} Euler steps, "
        f"window {config.window or 'their own'}",
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


def _headers(config: MeasureDrift, vae_version: str) -> dict[str, tuple[Path, ModelHeader]]:
    """The generators by the names that table and curves give them; warns of one that was made for another VAE.

    Raises:
        ValueError: two of them would have one name.
    """
    found: dict[str, tuple[Path, ModelHeader]] = {}
    for path in config.generator:
        # MLflow takes no other characters in a curve's name.
        name = re.sub(r"[^\w.\- ]", "_", f"{path.absolute().parent.name} {path.stem}")
        if name in found:
            raise ValueError(
                f"--generator: {path} and {found[name][0]} would both be called {name!r}: rename a folder"
            )
        found[name] = path, checkpoints.read_header(path)
        trained_on = found[name][1].extra.get("vae_version")
        if trained_on != vae_version:
            print(
                f"warning: {path} was trained on latents of VAE {trained_on or '(not recorded)'}",
                file=sys.stderr,
            )
    return found


def _sampling(config: MeasureDrift, made: ModelHeader) -> SamplingConfig:
    """A generator's own sampling with what the flags say."""
    own = made.preset.sampling
    return dataclasses.replace(own, steps=config.steps or own.steps, window=config.window or own.window)


def speech(path: Path | None) -> Iterator[Samples]:
    """Pieces of speech without end: the recording again and again, or one synthetic voice's ever new words."""
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
    """Writes the report to the output folder and to MLflow, and prints it."""
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

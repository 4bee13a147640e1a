"""Measures a VAE and a generator: `python -m jobs.evaluate --vae FILE --generator FILE [--clips URI]`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jobs import command_line, hardware
from pipelines import evaluation, talking
from pipelines.reconstruction import HeldOutClips
from portrait import tracking
from portrait.generator import Generator
from portrait.media.contact_sheet import save_png
from portrait.metrics.identity import embedder_of
from portrait.metrics.perceptual import LPIPS
from portrait.metrics.syncnet import checksum, load_syncnet
from portrait.presets import Preset
from portrait.storage import checkpoints
from portrait.vae import VideoVAE


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measures reconstruction for M = 0…3 references and whether the generated mouth follows the speech.

    Reconstruction is measured on a clips table's held-out split, or, without one, on synthetic heads of identities that
    no table holds. The mouth's opening is measured on such heads always: only there the true one is known. With a
    SyncNet, or a network that knows faces, held-out clips of the table are made to speak as well, and lip sync (S_C,
    S_D) and identity are measured beside those of the true videos.
    """

    vae: Path
    """The VAE's file."""
    generator: Path | None = None
    """The generator's file; without it only the VAE is measured."""
    clips: str | None = None
    """A clips table, a folder or URI; without it synthetic heads take its place."""
    source: str | None = None
    """Of the table, only clips of this source: `--source voxceleb2 --count 1000` is the paper's benchmark."""
    output: Path = Path("runs/tiny")
    """Folder for evaluation.json, evaluation.md, the contact sheet and the tracking store."""
    count: int = 12
    """Clips that are reconstructed at most."""
    subjects: int = 4
    """Unseen synthetic identities that are made to speak."""
    speakers: int = 4
    """Clips of the table that are made to speak, for lip sync and identity."""
    references: int = 1
    """Reference pictures of a generated clip, 1 … 3."""
    lpips_weights: Path | None = None
    """Folder with LPIPS backbone weights; without it LPIPS is not measured."""
    syncnet: Path | None = None
    """SyncNet's weights (syncnet_v2.model); without them lip sync is not measured."""
    identity_weights: Path | None = None
    """ONNX file of a face-recognition network; without it and --detector, identity is not measured."""
    detector: Path | None = None
    """ONNX file of YuNet, which finds the face's five points."""
    device: hardware.Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""


@dataclass(kw_only=True)
class Report:
    """What was measured, by which weights and on what."""

    hardware: str
    weights: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Name to value, or to why it was not measured."""
    sheet: np.ndarray | None = None
    """Contact sheet of a generated video, uint8 [H, W, 3]."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON and Markdown."""
        texts = {"weights": ", ".join(self.weights), "data": "; ".join(self.data)}
        # "figures" keeps evaluation.json readable to scripts that compare it with older runs.
        return {**texts, "hardware": self.hardware, "figures": self.metrics}


@dataclass(frozen=True, kw_only=True)
class Models:
    """What is measured."""

    vae: VideoVAE
    generator: Generator | None
    preset: Preset
    """The VAE's, with the generator's way to sample: a student brings its few steps."""

    @classmethod
    def load(cls, config: Evaluate, report: Report, device: str) -> Models:
        """Reads the files; the report is told which."""
        header = checkpoints.read_header(config.vae)
        report.weights.append(f"{config.vae.name} {header.version}")
        vae, preset, generator = checkpoints.load_vae(config.vae).to(device), header.preset, None
        if config.generator is not None:
            generator = checkpoints.load_generator(config.generator, preset=preset).to(device)
            made = checkpoints.read_header(config.generator)
            report.weights.append(f"{config.generator.name} {made.version}")
            preset = replace(preset, sampling=made.preset.sampling)
        return cls(vae=vae, generator=generator, preset=preset)


def main(config: Evaluate) -> dict[str, Any]:
    """Measures, writes the report, prints it and returns its metrics."""
    for name, most in (("count", 10**6), ("subjects", 10**6), ("speakers", 10**6), ("references", 3)):
        if not 1 <= getattr(config, name) <= most:
            raise ValueError(f"--{name} must be 1 … {most}, got {getattr(config, name)}")
    device = hardware.chosen(config.device)
    report = Report(hardware=hardware.described(device))
    judges = judges_of(config, device)
    lpips = LPIPS(config.lpips_weights)
    held_out = HeldOutClips.of(config.clips, config.count, config.source) if config.clips else None
    models = Models.load(config, report, device)
    measure_vae(config, report, models, held_out, lpips)
    if models.generator is not None:
        measure_generator(config, report, models)
        measure_speakers(config, report, models, held_out, judges)
    publish(config, report)
    print(evaluation.markdown(report.as_dict()))
    return report.metrics


def measure_vae(
    config: Evaluate, report: Report, models: Models, held_out: HeldOutClips | None, lpips: LPIPS
) -> None:
    """Reconstruction, of held-out clips or of synthetic heads."""
    size = models.preset.video.size
    if held_out is None:
        clips = evaluation.synthetic_clips(config.count, size=size)
        report.data.append(f"{len(clips)} synthetic clips of unseen identities")
    else:
        clips = tqdm(held_out.clips(size), total=held_out.count, unit="clip", desc="reconstructing")
        report.data.append(held_out.name)
    report.metrics |= evaluation.reconstruction_metrics(models.vae, clips, lpips=lpips)
    if lpips.reason is not None:
        report.metrics["lpips"] = lpips.reason


def measure_generator(config: Evaluate, report: Report, models: Models) -> None:
    """Whether the mouth follows the speech, on synthetic heads."""
    assert models.generator is not None
    size = models.preset.video.size
    subjects = [evaluation.GenerationSubject.synthetic(n, size=size) for n in range(config.subjects)]
    following = evaluation.measure_following(
        models.vae, models.generator, models.preset, subjects, references=config.references
    )
    report.metrics |= following.metrics
    report.data.append(f"{config.subjects} unseen synthetic identities for the mouth")
    report.sheet = evaluation.follow_sheet(following.examples[0])


def measure_speakers(
    config: Evaluate, report: Report, models: Models, held_out: HeldOutClips | None, judges: talking.Judges
) -> None:
    """Lip sync and identity of held-out people who are made to speak, where there is someone to judge."""
    assert models.generator is not None
    if held_out is not None and judges.any:
        count = min(config.speakers, held_out.count)
        clips = talking.spoken_clips(held_out, models.preset.video.size, count)
        spoken = tqdm(clips, total=count, unit="clip", desc="speaking")
        report.metrics |= talking.measure_talking(
            models.vae, models.generator, models.preset, spoken, judges, references=config.references
        )
        report.data.append(f"{count} of these clips for lip sync and identity")
    if config.syncnet is not None:
        report.weights.append(f"{config.syncnet.name} {checksum(config.syncnet)[:12]}")
    else:
        report.metrics["sync_confidence"] = "not measured: needs SyncNet's weights (--syncnet) and --clips"
    if judges.embedder is not None:
        report.weights.append(judges.embedder.id)
    else:
        report.metrics["identity"] = (
            "not measured: needs face networks (--identity-weights, --detector) and --clips"
        )


def judges_of(config: Evaluate, device: str) -> talking.Judges:
    """The networks that judge talking people.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file holds something else, or what they judge is not given.
    """
    if config.source is not None and config.clips is None:
        raise ValueError("--source: a source is one of a table's, give --clips")
    if config.syncnet or config.identity_weights or config.detector:
        for name in ("clips", "generator"):
            if getattr(config, name) is None:
                raise ValueError(
                    f"--{name}: lip sync and identity are measured on clips of a table made to speak"
                )
    return talking.Judges(
        syncnet=load_syncnet(config.syncnet).to(device) if config.syncnet else None,
        embedder=embedder_of(config.identity_weights, config.detector),
    )


def publish(config: Evaluate, report: Report) -> None:
    """Writes the report to the output folder and to MLflow."""
    config.output.mkdir(parents=True, exist_ok=True)
    content = report.as_dict()
    (config.output / "evaluation.json").write_text(json.dumps(content, indent=1))
    (config.output / "evaluation.md").write_text(evaluation.markdown(content))
    params = {name: content[name] for name in ("weights", "data", "hardware")}
    run = tracking.start_run("portrait", "evaluate", params, output=config.output)
    numbers = {name: value for name, value in report.metrics.items() if isinstance(value, float)}
    run.log_metrics({f"eval/{name}": value for name, value in numbers.items()}, step=0)
    run.log_artifact(config.output / "evaluation.md")
    if report.sheet is not None:
        save_png(config.output / "evaluation.png", report.sheet)
        run.log_artifact(config.output / "evaluation.png")
    run.finish()


if __name__ == "__main__":
    command_line.run(main, Evaluate)

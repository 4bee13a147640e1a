"""Evaluates a VAE and a generator: `python -m jobs.evaluate --vae FILE --generator FILE [--clips URI]`."""

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
    """Measures reconstruction with M = 0 … 3 references, and whether the generated mouth follows the speech.

    Reconstruction is measured on the held-out split of a clips table or, without a table, on synthetic heads that no
    table contains. The mouth opening is always measured on synthetic heads, because their true opening is known. If
    weights of SyncNet or of a face-recognition network are given, videos are also generated from the speech of held-out
    clips, and lip sync (S_C, S_D) and identity are reported for them and for the original videos.
    """

    vae: Path
    """Weights of the VAE (safetensors)."""
    generator: Path | None = None
    """Weights of the generator (safetensors); without them only the VAE is evaluated."""
    clips: str | None = None
    """Clips table or folder of shards, a path or URI; without it the VAE is evaluated on synthetic heads."""
    source: str | None = None
    """Use only clips of this source: `--source voxceleb2 --count 1000` is the paper's benchmark."""
    output: Path = Path("runs/tiny")
    """Folder for evaluation.json, evaluation.md, the contact sheet and, without a tracking server, the MLflow store."""
    count: int = 12
    """Maximum number of clips to reconstruct."""
    subjects: int = 4
    """Number of unseen synthetic heads to animate."""
    speakers: int = 4
    """Maximum number of held-out clips to generate from, for lip sync and identity."""
    references: int = 1
    """Number of references for generated videos, 1 … 3."""
    lpips_weights: Path | None = None
    """Folder with LPIPS backbone weights; without them LPIPS is not measured."""
    syncnet: Path | None = None
    """SyncNet weights (syncnet_v2.model); without them lip sync is not measured."""
    identity_weights: Path | None = None
    """Face-recognition network (ONNX); identity is measured only if this and --detector are given."""
    detector: Path | None = None
    """YuNet face detector (ONNX), which finds the five facial landmarks."""
    device: hardware.Device = "auto"
    """Device to compute on; auto uses a GPU if there is one."""


@dataclass(kw_only=True)
class Report:
    """The metrics, the weights that were evaluated, and the data they were evaluated on."""

    hardware: str
    weights: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    """Name → value, or the reason why it was not measured."""
    sheet: np.ndarray | None = None
    """Contact sheet of a generated video, uint8 [H, W, 3]; None without a generator."""

    def as_dict(self) -> dict[str, Any]:
        """The content of evaluation.json and evaluation.md."""
        texts = {"weights": ", ".join(self.weights), "data": "; ".join(self.data)}
        # "figures" keeps evaluation.json readable to scripts that compare it with older runs.
        return {**texts, "hardware": self.hardware, "figures": self.metrics}


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models to evaluate."""

    vae: VideoVAE
    generator: Generator | None
    preset: Preset
    """The VAE's preset with the sampling of the generator, because a distilled student samples in fewer steps."""

    @classmethod
    def load(cls, config: Evaluate, report: Report, device: str) -> Models:
        """Loads the weights and adds their names and versions to the report."""
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
    """Evaluates the models, writes and prints the report, and returns the metrics."""
    for name, most in (("count", 10**6), ("subjects", 10**6), ("speakers", 10**6), ("references", 3)):
        if not 1 <= getattr(config, name) <= most:
            raise ValueError(f"--{name} must be between 1 and {most}, got {getattr(config, name)}")
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
    """Measures reconstruction on held-out clips, or on synthetic heads if there is no table."""
    size = models.preset.video.size
    if held_out is None:
        clips = evaluation.synthetic_clips(config.count, size=size)
        report.data.append(f"{len(clips)} clips of unseen synthetic heads")
    else:
        clips = tqdm(held_out.clips(size), total=held_out.count, unit="clip", desc="reconstructing")
        report.data.append(held_out.name)
    report.metrics |= evaluation.reconstruction_metrics(models.vae, clips, lpips=lpips)
    if lpips.reason is not None:
        report.metrics["lpips"] = lpips.reason


def measure_generator(config: Evaluate, report: Report, models: Models) -> None:
    """Measures on synthetic heads whether the mouth follows the speech."""
    assert models.generator is not None
    size = models.preset.video.size
    subjects = [evaluation.GenerationSubject.synthetic(n, size=size) for n in range(config.subjects)]
    following = evaluation.measure_following(
        models.vae, models.generator, models.preset, subjects, references=config.references
    )
    report.metrics |= following.metrics
    report.data.append(f"{config.subjects} unseen synthetic heads for the mouth opening")
    report.sheet = evaluation.follow_sheet(following.examples[0])


def measure_speakers(
    config: Evaluate, report: Report, models: Models, held_out: HeldOutClips | None, judges: talking.Judges
) -> None:
    """Measures lip sync and identity of videos generated from held-out clips, with the networks that are given."""
    assert models.generator is not None
    if held_out is not None and judges.any:
        count = min(config.speakers, held_out.count)
        clips = talking.spoken_clips(held_out, models.preset.video.size, count)
        spoken = tqdm(clips, total=count, unit="clip", desc="generating")
        report.metrics |= talking.measure_talking(
            models.vae, models.generator, models.preset, spoken, judges, references=config.references
        )
        report.data.append(f"{count} of these clips for lip sync and identity")
    if config.syncnet is not None:
        report.weights.append(f"{config.syncnet.name} {checksum(config.syncnet)[:12]}")
    else:
        report.metrics["sync_confidence"] = "not measured: needs SyncNet weights (--syncnet) and --clips"
    if judges.embedder is not None:
        report.weights.append(judges.embedder.id)
    else:
        report.metrics["identity"] = (
            "not measured: needs a face-recognition network and a detector (--identity-weights, --detector) and --clips"
        )


def judges_of(config: Evaluate, device: str) -> talking.Judges:
    """Loads the networks that score lip sync and identity.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file contains something else, or --clips or --generator is missing.
    """
    if config.source is not None and config.clips is None:
        raise ValueError("--source selects clips of a table: give --clips as well")
    if config.syncnet or config.identity_weights or config.detector:
        for name in ("clips", "generator"):
            if getattr(config, name) is None:
                raise ValueError(
                    f"--{name} is missing: lip sync and identity are measured on videos generated from clips of a table"
                )
    return talking.Judges(
        syncnet=load_syncnet(config.syncnet).to(device) if config.syncnet else None,
        embedder=embedder_of(config.identity_weights, config.detector),
    )


def publish(config: Evaluate, report: Report) -> None:
    """Writes the report to the output folder and logs it to MLflow."""
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

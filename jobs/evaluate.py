"""Measures a VAE and a generator: `python -m jobs.evaluate --vae FILE --generator FILE [--clips URI]`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jobs import command_line, hardware
from pipelines import evaluation, talking
from pipelines.reconstruction import HeldOutClips
from portrait import tracking
from portrait.media.contact_sheet import save_png
from portrait.metrics import LPIPS
from portrait.metrics.identity import embedder_of
from portrait.metrics.syncnet import load_syncnet
from portrait.storage import checkpoints


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


def main(config: Evaluate) -> dict[str, Any]:
    """Measures, writes the report, prints it and returns its figures."""
    for name, least, most in (
        ("count", 1, 10**6),
        ("subjects", 1, 10**6),
        ("speakers", 1, 10**6),
        ("references", 1, 3),
    ):
        if not least <= getattr(config, name) <= most:
            raise ValueError(f"--{name} must be {least} … {most}, got {getattr(config, name)}")
    header = checkpoints.read_header(config.vae)
    device = hardware.chosen(config.device)
    vae = checkpoints.load_vae(config.vae).to(device)
    size = header.preset.video.size
    lpips = LPIPS(config.lpips_weights)
    judges = judges_of(config, device)
    figures: dict[str, Any] = {}
    held_out = None
    if config.clips is None:
        clips = evaluation.synthetic_clips(config.count, size=size)
        figures |= evaluation.reconstruction_figures(vae, clips, lpips=lpips)
        data = f"{len(clips)} synthetic clips of unseen identities"
    else:
        held_out = HeldOutClips.of(config.clips, config.count, config.source)
        bar = tqdm(held_out.clips(size), total=held_out.count, unit="clip", desc="reconstructing")
        figures |= evaluation.reconstruction_figures(vae, bar, lpips=lpips)
        data = held_out.name
    if lpips.reason is not None:
        figures["lpips"] = lpips.reason
    weights = f"{config.vae.name} {header.version}"
    sheet = None
    if config.generator is not None:
        generator = checkpoints.load_generator(config.generator, preset=header.preset).to(device)
        made = checkpoints.read_header(config.generator)
        weights += f", {config.generator.name} {made.version}"
        subjects = [evaluation.GenerationSubject.synthetic(n, size=size) for n in range(config.subjects)]
        preset = replace(header.preset, sampling=made.preset.sampling)  # a student brings its few steps
        following = evaluation.measure_following(
            vae, generator, preset, subjects, references=config.references
        )
        figures |= following.figures
        data += f"; {config.subjects} unseen synthetic identities for the mouth"
        if held_out is not None and judges.any:
            count = min(config.speakers, held_out.count)
            spoken = tqdm(
                talking.spoken_clips(held_out, size, count), total=count, unit="clip", desc="speaking"
            )
            figures |= talking.measure_talking(
                vae, generator, preset, spoken, judges, references=config.references
            )
            data += f"; {count} of these clips for lip sync and identity"
        figures |= not_measured(config)
        sheet = evaluation.follow_sheet(following.examples[0])
    report = {"weights": weights, "data": data, "hardware": hardware.described(device), "figures": figures}
    publish(config, report, sheet)
    print(evaluation.markdown(report))
    return figures


def judges_of(config: Evaluate, device: str) -> talking.Judges:
    """The networks that judge talking people.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file holds something else, or what they judge is not given.
    """
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


def not_measured(config: Evaluate) -> dict[str, str]:
    """What was not measured of the generator, and what it needs."""
    missing = {}
    if config.syncnet is None:
        missing["sync_confidence"] = "not measured: needs SyncNet's weights (--syncnet) and --clips"
    if config.identity_weights is None:
        missing["identity"] = "not measured: needs face networks (--identity-weights, --detector) and --clips"
    return missing


def publish(config: Evaluate, report: dict[str, Any], sheet: Any) -> None:
    """Writes the report to the output folder and to MLflow."""
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "evaluation.json").write_text(json.dumps(report, indent=1))
    (config.output / "evaluation.md").write_text(evaluation.markdown(report))
    params = {"weights": report["weights"], "data": report["data"], "hardware": report["hardware"]}
    run = tracking.start_run("portrait", "evaluate", params, output=config.output)
    numbers = {name: value for name, value in report["figures"].items() if isinstance(value, float)}
    run.log_metrics({f"eval/{name}": value for name, value in numbers.items()}, step=0)
    run.log_artifact(config.output / "evaluation.md")
    if sheet is not None:
        save_png(config.output / "evaluation.png", sheet)
        run.log_artifact(config.output / "evaluation.png")
    run.finish()


if __name__ == "__main__":
    command_line.run(main, Evaluate)

"""Measures a VAE and a generator: `python -m jobs.evaluate --vae FILE --generator FILE [--clips URI]`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jobs import command_line, hardware
from pipelines import evaluation
from pipelines.reconstruction import HeldOutClips
from portrait import tracking
from portrait.media.contact_sheet import save_png
from portrait.storage import checkpoints


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measures reconstruction for M = 0…3 references and whether the generated mouth follows the speech.

    Reconstruction is measured on a clips table's held-out split, or, without one, on synthetic heads of identities that
    no table holds. The mouth is measured on such heads always: only there its true opening is known.
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
    references: int = 1
    """Reference pictures of a generated clip, 1 … 3."""
    device: hardware.Device = "auto"
    """Where to compute; auto takes a GPU where there is one."""


def main(config: Evaluate) -> dict[str, Any]:
    """Measures, writes the report, prints it and returns its figures."""
    for name, least, most in (("count", 1, 10**6), ("subjects", 1, 10**6), ("references", 1, 3)):
        if not least <= getattr(config, name) <= most:
            raise ValueError(f"--{name} must be {least} … {most}, got {getattr(config, name)}")
    header = checkpoints.read_header(config.vae)
    device = hardware.chosen(config.device)
    vae = checkpoints.load_vae(config.vae).to(device)
    size = header.preset.video.size
    figures: dict[str, Any] = {}
    if config.clips is None:
        clips = evaluation.synthetic_clips(config.count, size=size)
        figures |= evaluation.reconstruction_figures(vae, clips)
        data = f"{len(clips)} synthetic clips of unseen identities"
    else:
        held_out = HeldOutClips.of(config.clips, config.count, config.source)
        bar = tqdm(held_out.clips(size), total=held_out.count, unit="clip", desc="reconstructing")
        figures |= evaluation.reconstruction_figures(vae, bar)
        data = held_out.name
    figures["lpips"] = "not measured: needs LPIPS backbone weights"
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
        sheet = evaluation.follow_sheet(following.examples[0])
    report = {"weights": weights, "data": data, "hardware": hardware.described(device), "figures": figures}
    publish(config, report, sheet)
    print(evaluation.markdown(report))
    return figures


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

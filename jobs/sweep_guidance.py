"""Sweeps the guidance scales: `python -m jobs.sweep_guidance --vae FILE --generator FILE --output DIR`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from jobs import command_line, hardware
from pipelines import guidance_sweep
from pipelines.evaluation import GenerationSubject
from portrait import tracking
from portrait.media.contact_sheet import SheetRow, contact_sheet, save_png
from portrait.metrics.identity import embedder_of
from portrait.storage import checkpoints


@dataclass(frozen=True, kw_only=True)
class SweepGuidance:
    """Measures sync, identity, colour, sharpness and diversity for every pair of guidance scales λ_a and λ_r.

    This is the paper's guidance ablation, on synthetic heads that no table contains, with one reference each.
    """

    vae: Path
    """Weights of the VAE (safetensors)."""
    generator: Path
    """Weights of the generator (safetensors)."""
    scales: tuple[float, ...] = (1.0, 2.0, 3.0)
    """Values that λ_a and λ_r take."""
    subjects: int = 2
    """Number of unseen synthetic heads to animate."""
    seeds: int = 3
    """Number of takes per head, at least 2."""
    seconds: float = 4.0
    """Length of a take in seconds."""
    identity_weights: Path | None = None
    """Face-recognition network (ONNX); identity is measured only if this and --detector are given."""
    detector: Path | None = None
    """YuNet face detector (ONNX), which finds the five facial landmarks."""
    device: hardware.Device = "auto"
    """Device to compute on; auto uses a GPU if there is one."""
    output: Path = Path("runs/guidance")
    """Folder for guidance.md, guidance.csv, the contact sheet and, without a tracking server, the MLflow store."""


def main(config: SweepGuidance) -> list[guidance_sweep.Row]:
    """Measures every pair of scales, then writes and prints the report."""
    if config.subjects < 1 or config.seeds < 2 or not config.scales:
        raise ValueError("--subjects must be at least 1, --seeds at least 2, and --scales must not be empty")
    embedder = embedder_of(config.identity_weights, config.detector)
    header, made = checkpoints.read_header(config.vae), checkpoints.read_header(config.generator)
    preset = dataclasses.replace(header.preset, sampling=made.preset.sampling)
    device = hardware.chosen(config.device)
    vae = checkpoints.load_vae(config.vae).to(device)
    generator = checkpoints.load_generator(config.generator, preset=preset).to(device)
    subjects = [
        GenerationSubject.synthetic(number, size=preset.video.size, seconds=config.seconds)
        for number in range(config.subjects)
    ]
    facts = {
        "weights": f"{config.vae} {header.version}, {config.generator} {made.version}",
        "data": f"{config.subjects} synthetic heads that no table contains, {config.seconds:g} s, {config.seeds} seeds",
        "sampling": f"{preset.sampling.steps} Euler steps",
        "hardware": hardware.described(device),
    }
    if embedder is not None:
        facts["identity"] = embedder.id
    config.output.mkdir(parents=True, exist_ok=True)
    run = tracking.start_run("portrait", "sweep_guidance", facts, output=config.output)
    rows = []
    with run:
        for step, row in enumerate(
            guidance_sweep.sweep(
                vae,
                generator,
                preset,
                subjects,
                scales=config.scales,
                seeds=config.seeds,
                embedder=embedder,
            )
        ):
            rows.append(row)
            text = "  ".join(f"{name} {value:.3f}" for name, value in row.metrics.items())
            print(f"λ_a {row.audio:g}, λ_r {row.reference:g}: {text}", flush=True)
            scales = {"audio_guidance": row.audio, "reference_guidance": row.reference}
            run.log_metrics(scales | dict(row.metrics), step)
        publish(config, run, rows, facts)
    return rows


def publish(
    config: SweepGuidance, run: tracking.Run, rows: list[guidance_sweep.Row], facts: dict[str, str]
) -> None:
    """Writes the report to the output folder, logs it to MLflow and prints it."""
    text = guidance_sweep.markdown(rows, facts)
    (config.output / "guidance.md").write_text(text)
    (config.output / "guidance.csv").write_text(guidance_sweep.as_csv(rows))
    sheet = [
        SheetRow(
            label=f"λ_a = {audio:g}",
            frames=[row.shown for row in rows if row.audio == audio],
            captions=[f"λ_r = {row.reference:g}" for row in rows if row.audio == audio],
        )
        for audio in config.scales
    ]
    save_png(config.output / "guidance.png", contact_sheet(sheet))
    for name in ("guidance.md", "guidance.csv", "guidance.png"):
        run.log_artifact(config.output / name)
    print(text)


if __name__ == "__main__":
    command_line.run(main, SweepGuidance)

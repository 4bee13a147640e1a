"""The paper's ablation of the VAE: `python -m jobs.ablate_vae --clips URI --preset tiny --steps 2000 --output DIR`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import command_line, hardware
from jobs.train_vae import TrainVAE, vae_task
from pipelines import ablation
from pipelines.reconstruction import HeldOutClips
from pipelines.trainer import fit, record_path
from pipelines.training_settings import TrainingSettings
from pipelines.vae_task import VAETask
from portrait import tracking
from portrait.media.contact_sheet import save_png
from portrait.metrics.perceptual import LPIPS
from portrait.storage import checkpoints

Tables = Mapping[str, Sequence[ablation.Row]]
"""Rows by the name of the clips table that was measured on."""


@dataclass(frozen=True, kw_only=True)
class AblateVAE(TrainVAE):
    """Trains four VAEs in the same way, with and without CR-VA, each with 0 … 3 references and without any, and writes
    the paper's table: L1, PSNR, ΔPSNR and LPIPS at M = 0 … 3.

    Each model gets the whole budget (--steps or --minutes). --resume continues where the job was stopped; finished
    models are kept.
    """

    benchmarks: tuple[str, ...] = ()
    """More clips tables whose held-out clips are measured; each gets its own table in the result."""
    count: int = 24
    """Largest number of held-out clips of each table that are reconstructed, each in full length."""


def main(config: AblateVAE) -> Tables:
    """Trains, measures, writes ablation.md, ablation.csv and ablation.png, and returns the rows."""
    if config.count < 1:
        raise ValueError(f"--count must be positive, got {config.count}")
    if config.init != "none":
        raise ValueError("--init must be none: the ablation trains all models from new weights")
    task = vae_task(config)
    benchmarks = [
        HeldOutClips.of(uri, config.count) for uri in dict.fromkeys([task.clips, *config.benchmarks])
    ]
    settings = config.connect()
    facts = {
        "preset": config.preset,
        "training": f"{task.clips} version {task.clips_version}, seed {config.seed}",
        "training stages": ", ".join(
            f"{stage.size}²×{stage.num_frames}: {stage.steps} steps of {max(1, settings.workers)}×{stage.batch_size}"
            for stage in task.training.stages
        ),
        "time limit of each model": f"{config.minutes:g} minutes" if config.minutes else "none",
        "hardware": hardware.described("cuda" if settings.gpu else "cpu"),
    }
    run = open_run(config, facts)
    with run:
        tables, steps = train_and_measure(config, task, dataclasses.replace(settings, parent=run), benchmarks)
        facts["steps made"] = ", ".join(f"{name} {count}" for name, count in steps.items())
        publish(config.folder, run, tables, facts)
    return tables


def open_run(config: AblateVAE, facts: Mapping[str, str]) -> tracking.Run:
    """The run that the four models' runs are listed under; with --resume, the run of the interrupted job."""
    record = config.folder / "ablation_run.json"
    if config.resume and record.exists():
        return tracking.attach(**json.loads(record.read_text()), output=config.folder)
    config.folder.mkdir(parents=True, exist_ok=True)
    run = tracking.start_run("portrait", "ablate_vae", facts, output=config.folder)
    record.write_text(json.dumps({"run_id": run.run_id, "uri": run.uri}))
    return run


def train_and_measure(
    config: AblateVAE, task: VAETask, settings: TrainingSettings, benchmarks: Sequence[HeldOutClips]
) -> tuple[Tables, dict[str, int]]:
    """Each clips table's rows, and the optimiser steps of each model."""
    lpips = LPIPS(config.training.lpips_weights)
    steps: dict[str, int] = {}
    measured: dict[str, ablation.Measured] = {benchmark.name: {} for benchmark in benchmarks}
    for number, arm in enumerate(ablation.ARMS, 1):
        print(f"model {number}/{len(ablation.ARMS)}: {arm.label}", flush=True)
        folder = config.folder / arm.name
        resume = config.resume and record_path(folder, task.kind).exists()
        result = fit(arm.task(task), dataclasses.replace(settings, output=str(folder)), resume=resume)
        steps[arm.name] = result.steps
        vae = checkpoints.load_vae(result.weights).to("cuda" if settings.gpu else "cpu")
        for benchmark in benchmarks:
            clips = benchmark.clips(task.preset.video.size)
            measured[benchmark.name][arm.name] = ablation.measure(vae, clips, arm.counts, lpips)
    return {name: ablation.rows_of(metrics) for name, metrics in measured.items()}, steps


def publish(folder: Path, run: tracking.Run, tables: Tables, facts: Mapping[str, str]) -> None:
    """Writes the three files, logs them and all metrics, and prints the tables."""
    text = ablation.markdown(tables, facts)
    (folder / "ablation.md").write_text(text)
    (folder / "ablation.csv").write_text(ablation.as_csv(tables))
    save_png(folder / "ablation.png", ablation.plot(tables))
    for name in ("ablation.md", "ablation.csv", "ablation.png"):
        run.log_artifact(folder / name)
    for number, rows in enumerate(tables.values()):
        for row in rows:
            metrics = {f"table{number}/psnr_{row.arm}": row.psnr, f"table{number}/l1_{row.arm}": row.l1}
            run.log_metrics(metrics, row.count)
    print(text)


if __name__ == "__main__":
    command_line.run(main, AblateVAE)

"""Trains the generator on a latents table: `python -m jobs.train_generator --latents URI --output DIR`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from jobs import command_line
from pipelines.generator_task import GeneratorTask
from pipelines.task_options import TrainingOptions, check_weights
from pipelines.trainer import TrainingResult, fit
from portrait import presets
from portrait.storage import checkpoints
from portrait.storage.latents import LatentTable
from portrait.storage.mixture import EVERY_SOURCE, SourceMix


@dataclass(frozen=True, kw_only=True)
class TrainGenerator(TrainingOptions):
    """Trains the autoregressive generator and exports its averaged weights to OUTPUT/generator.safetensors."""

    latents: str | None = None
    """The latents table, a folder or URI; OUTPUT/latents.lance where not given."""
    vae: Path | None = None
    """The VAE that made the latents: with it, evaluations show and measure a generated clip."""
    steps: int | None = None
    """Optimiser steps; the preset's where not given."""
    batch_size: int | None = None
    """Windows a worker and step."""
    learning_rate: float | None = None
    """Peak learning rate."""
    rollout_share: float | None = None
    """Share 0 … 1 of the steps whose history is made by the model itself, against drift; such a step takes about twice
    as long. The preset's where not given."""
    sources: SourceMix = EVERY_SOURCE
    """How often each of the table's sources is visited; its largest size counts where the table is made."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


def main(config: TrainGenerator) -> TrainingResult:
    """Trains and prints where the weights are and what they reach."""
    task = generator_task(config)
    settings = config.connect()
    result = fit(task, settings, resume=config.resume)
    print(result.text("generator"))
    return result


def generator_task(config: TrainGenerator) -> GeneratorTask:
    """What the flags ask to train.

    Raises:
        FileNotFoundError: there is no latents table, or no weights to start from.
        ValueError: a number is out of range, or weights do not fit the preset.
    """
    preset = presets.load(config.preset)
    latents = config.latents or str(config.folder / "latents.lance")
    if config.vae is not None:
        check_weights(config.vae, "vae", preset)
    overrides = ("steps", "batch_size", "learning_rate", "optimizer", "rollout_share")
    changes = {name: getattr(config, name) for name in overrides}
    training = dataclasses.replace(
        preset.generator_training, **{name: value for name, value in changes.items() if value is not None}
    )
    if training.rollout_share and config.zero_stage == 3:
        raise ValueError(
            "--rollout-share: a rollout reads weights outside the engine's forward pass, which ZeRO stage 3 splits; "
            "use --zero-stage 0, 1 or 2"
        )
    if config.sources.max_size:
        raise ValueError(
            "--sources.max-size: latents have one size; give it to encode_latents, which makes the table"
        )
    init = config.initial_weights("generator")
    if init is not None:  # weights are sampled as they were made to be: a student in its few steps
        preset = dataclasses.replace(preset, sampling=checkpoints.read_header(init).preset.sampling)
    return GeneratorTask(
        preset=preset,
        latents=latents if "://" in latents else str(Path(latents).absolute()),
        latents_version=LatentTable.open(latents).version,
        training=training,
        init=init,
        sources=config.sources,
        activation_checkpointing=config.activation_checkpointing,
        vae=None if config.vae is None else str(config.vae.absolute()),
    )


if __name__ == "__main__":
    command_line.run(main, TrainGenerator)

"""Trains the generator on a latents table: `python -m jobs.train_generator --latents URI --output DIR`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from jobs import command_line
from pipelines.generator_task import GeneratorTask
from pipelines.task_options import TrainingOptions, check_weights
from pipelines.trainer import TrainingResult, fit
from portrait import presets
from portrait.presets import GeneratorTrainingConfig
from portrait.storage import checkpoints
from portrait.storage.latents import LatentTable
from portrait.storage.mixture import EVERY_SOURCE, SourceMix


@dataclass(frozen=True, kw_only=True)
class TrainGenerator(TrainingOptions):
    """Trains the autoregressive generator and exports its averaged weights to OUTPUT/generator.safetensors."""

    latents: str | None = None
    """The latents table, a folder or URI; OUTPUT/latents.lance by default."""
    vae: Path | None = None
    """The VAE that made the latents; with it, evaluations also generate a clip, show it and measure it."""
    training: GeneratorTrainingConfig
    """The preset's training configuration, field by field: steps, history noise, dropouts, optimiser."""
    sources: SourceMix = EVERY_SOURCE
    """How often each of the table's sources is visited. A largest size is set when the table is made."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @classmethod
    def of_preset(cls, preset: str, **fields: Any) -> Self:
        """The job's configuration with a preset's training configuration.

        Raises:
            ValueError: there is no preset of that name.
        """
        return cls(preset=preset, training=presets.load(preset).generator_training, **fields)


def main(config: TrainGenerator) -> TrainingResult:
    """Trains, and prints where the weights are and how good they are."""
    task = generator_task(config)
    settings = config.connect()
    result = fit(task, settings, resume=config.resume)
    print(result.text("generator"))
    return result


def generator_task(config: TrainGenerator) -> GeneratorTask:
    """The training task that the flags describe.

    Raises:
        FileNotFoundError: the latents table or the weights to start from do not exist.
        ValueError: a number is out of range, or weights do not fit the preset.
    """
    preset = presets.load(config.preset)
    latents = config.latents or str(config.folder / "latents.lance")
    if config.vae is not None:
        check_weights(config.vae, "vae", preset)
    shared = {name: getattr(config, name) for name in ("steps", "batch_size", "learning_rate")}
    training = dataclasses.replace(
        config.training, **{name: value for name, value in shared.items() if value is not None}
    )
    if training.rollout_share and config.zero_stage == 3:
        raise ValueError(
            "--training.rollout-share: a rollout reads weights outside the engine's forward pass, which ZeRO stage 3 "
            "splits; use --zero-stage 0, 1 or 2"
        )
    if config.sources.max_size:
        raise ValueError(
            "--sources.max-size: a latents table has one size; pass it to encode_latents, which makes the table"
        )
    init = config.initial_weights("generator")
    if init is not None:  # sampled as the weights were trained for: a student takes few steps
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

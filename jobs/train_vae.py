"""Trains the video VAE on a clips table: `python -m jobs.train_vae --clips URI --preset tiny --output DIR`."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from jobs import command_line
from pipelines.task_options import TrainingOptions
from pipelines.trainer import TrainingResult, fit
from pipelines.vae_task import VAETask
from portrait import presets
from portrait.presets import VAETrainingConfig
from portrait.storage.clip_collections import open_clips
from portrait.storage.mixture import EVERY_SOURCE, SourceMix

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainVAE(TrainingOptions):
    """Trains the reference-guided VAE, stage by stage, and exports its averaged weights to OUTPUT/vae.safetensors."""

    clips: str | None = None
    """The clips table, a folder or URI, or a folder of shards; OUTPUT/clips.lance by default."""
    training: VAETrainingConfig
    """The preset's training configuration, field by field: loss weights, training stages, optimiser."""
    stages: tuple[int, ...] | None = None
    """Which of the training stages to run, by number (0 1 2); by default all of them."""
    sources: SourceMix = EVERY_SOURCE
    """How often each of the table's sources is visited, and up to which frame size."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""

    @classmethod
    def of_preset(cls, preset: str, **fields: Any) -> Self:
        """The job's configuration with a preset's training configuration.

        Raises:
            ValueError: there is no preset of that name.
        """
        return cls(preset=preset, training=presets.load(preset).vae_training, **fields)


def main(config: TrainVAE) -> TrainingResult:
    """Trains, and prints where the weights are and how good they are."""
    task = vae_task(config)
    settings = config.connect()
    result = fit(task, settings, resume=config.resume)
    print(result.text("VAE"))
    return result


def vae_task(config: TrainVAE) -> VAETask:
    """The training task that the flags describe; warns if the loss is without LPIPS.

    Raises:
        FileNotFoundError: the clips table or the weights to start from do not exist.
        ValueError: the preset, a training stage or the weights to start from do not fit.
    """
    preset = presets.load(config.preset)
    clips = config.clips or str(config.folder / "clips.lance")
    task = VAETask(
        preset=preset,
        clips=clips if "://" in clips else str(Path(clips).absolute()),
        clips_version=open_clips(clips).version,
        training=selected_training(config),
        init=config.initial_weights("vae"),
        sources=config.sources,
        activation_checkpointing=config.activation_checkpointing,
    )
    if not task.lpips_weight:
        logger.warning(
            "no LPIPS backbone weights (--training.lpips-weights FOLDER): LPIPS has weight 0 in the loss"
        )
    return task


def selected_training(config: TrainVAE) -> VAETrainingConfig:
    """The training configuration with the stages that were selected and the shared steps, batch size and rate.

    Raises:
        ValueError: a selected stage does not exist, or none is selected.
    """
    stages = list(config.training.stages)
    if config.stages is not None:
        for index in config.stages:
            if not 0 <= index < len(stages):
                raise ValueError(f"--stages: the preset has stages 0 … {len(stages) - 1}, got {index}")
        stages = [stages[index] for index in config.stages]
    if not stages:
        raise ValueError("--stages: at least one stage is needed")
    total = sum(stage.steps for stage in stages)
    changed = tuple(
        dataclasses.replace(
            stage,
            steps=stage.steps if config.steps is None else max(1, round(config.steps * stage.steps / total)),
            batch_size=stage.batch_size if config.batch_size is None else config.batch_size,
            learning_rate=stage.learning_rate if config.learning_rate is None else config.learning_rate,
        )
        for stage in stages
    )
    return dataclasses.replace(config.training, stages=changed)


if __name__ == "__main__":
    command_line.run(main, TrainVAE)

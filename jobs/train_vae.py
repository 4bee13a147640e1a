"""Trains the video VAE on a clips table: `python -m jobs.train_vae --clips URI --preset tiny --output DIR`."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

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
    """The clips table, a folder or URI, or a folder of shards; OUTPUT/clips.lance where not given."""
    stages: tuple[int, ...] | None = None
    """Which of the preset's stages to run (0 1 2); all of them where not given."""
    steps: int | None = None
    """Optimiser steps in all, shared among the stages as the preset shares its own."""
    batch_size: int | None = None
    """Clips a worker and step, in every stage."""
    learning_rate: float | None = None
    """Peak learning rate, in every stage."""
    colour_jitter: float | None = None
    """Strength 0 … 1 of a random change of the examples' colours; the preset's where not given."""
    l2_weight: float | None = None
    """Weight of the mean squared error of frames; the preset's where not given."""
    motion_weight: float | None = None
    """Weight of the mean squared error of the change from frame to frame; the preset's where not given."""
    lpips_weights: str | None = None
    """Folder with LPIPS backbone weights; without it LPIPS has no part in the loss."""
    sources: SourceMix = EVERY_SOURCE
    """How often each of the table's sources is visited, and up to which picture size."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


def main(config: TrainVAE) -> TrainingResult:
    """Trains and prints where the weights are and what they reach."""
    task = vae_task(config)
    settings = config.connect()
    result = fit(task, settings, resume=config.resume)
    print(result.text("VAE"))
    return result


def vae_task(config: TrainVAE) -> VAETask:
    """What the flags ask to train; warns where LPIPS has no part in it.

    Raises:
        FileNotFoundError: there is no clips table, or no weights to start from.
        ValueError: the preset, a stage or the weights to start from do not fit.
    """
    preset = presets.load(config.preset)
    clips = config.clips or str(config.folder / "clips.lance")
    task = VAETask(
        preset=preset,
        clips=clips if "://" in clips else str(Path(clips).absolute()),
        clips_version=open_clips(clips).version,
        training=overridden(preset.vae_training, config),
        init=config.initial_weights("vae"),
        sources=config.sources,
        activation_checkpointing=config.activation_checkpointing,
    )
    if not task.lpips_weight:
        logger.warning("no LPIPS backbone weights (--lpips-weights): LPIPS has weight 0 in the loss")
    return task


def overridden(training: VAETrainingConfig, config: TrainVAE) -> VAETrainingConfig:
    """The preset's training with what the command line says of it.

    Raises:
        ValueError: a stage does not exist, or there is none.
    """
    stages = list(training.stages)
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
            batch_size=config.batch_size or stage.batch_size,
            learning_rate=config.learning_rate or stage.learning_rate,
        )
        for stage in stages
    )
    return dataclasses.replace(
        training,
        stages=changed,
        lpips_weights=config.lpips_weights or training.lpips_weights,
        optimizer=config.optimizer or training.optimizer,
        colour_jitter=training.colour_jitter if config.colour_jitter is None else config.colour_jitter,
        l2_weight=training.l2_weight if config.l2_weight is None else config.l2_weight,
        motion_weight=training.motion_weight if config.motion_weight is None else config.motion_weight,
    )


if __name__ == "__main__":
    command_line.run(main, TrainVAE)

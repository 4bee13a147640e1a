"""Training of the generator on windows of latents, with teacher forcing (paper, "Blockwise autoregressive latent
generation"). It reads the latents table and decodes no video, except the clip that an evaluation shows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.evaluation import GenerationSubject, follow_sheet, measure_following
from pipelines.task import Batch, DataShard, Evaluation, TrainingStage
from portrait.generator import Generator, SamplingConfig, flow_matching_loss
from portrait.generator.self_rollout import SelfRollout
from portrait.presets import GeneratorTrainingConfig, OptimizerConfig, Preset
from portrait.presets.serialization import to_dict
from portrait.storage import checkpoints
from portrait.storage.batches import batches, collate
from portrait.storage.epoch_sampler import Draw, EpochSampler
from portrait.storage.latent_windows import LatentWindows
from portrait.storage.latents import LatentTable
from portrait.storage.mixture import EVERY_SOURCE, SourceMix

EVALUATION_SEED = 7


@dataclass(frozen=True, kw_only=True)
class GeneratorTask:
    """Trains `preset.generator` on a latents table."""

    preset: Preset
    """The system whose generator is trained."""
    latents: str
    """URI of the latents table."""
    latents_version: int
    """Version of the table that is read, also after a resume."""
    training: GeneratorTrainingConfig
    """Optimiser, dropouts and steps; the preset's, or overridden."""
    init: str | None = None
    """A generator file to start from; None for new weights."""
    vae: str | None = None
    """The VAE file of the latents: with it, evaluations also show and measure a generated clip."""
    sources: SourceMix = EVERY_SOURCE
    """How often each source is visited."""
    activation_checkpointing: bool = False
    """Recomputes each layer in the backward pass instead of keeping its activations: less memory, a third more time."""
    evaluation_windows: int = 32
    """Held-out windows whose loss an evaluation measures."""
    kind: str = "generator"

    @property
    def loss_name(self) -> str:
        """Name of the held-out loss as a metric."""
        return "flow_loss"

    @property
    def exported_preset(self) -> Preset:
        """The preset that is stored with the weights, with the sampling that they are trained for."""
        return self.preset

    @property
    def stages(self) -> Sequence[TrainingStage]:
        training = self.training
        return [
            TrainingStage(
                name=f"{self.preset.generator.window_latents} latents",
                steps=training.steps,
                batch_size=training.batch_size,
                learning_rate=training.learning_rate,
            )
        ]

    @property
    def optimizer(self) -> OptimizerConfig:
        return self.training.optimizer

    def params(self) -> dict[str, Any]:
        return {
            "preset": self.preset.name,
            "generator": to_dict(self.preset.generator),
            "generator_training": to_dict(self.training),
            "latents": self.latents,
            "latents_version": self.latents_version,
            "init": self.init,
            "sources": to_dict(self.sources),
        }

    @cached_property
    def table(self) -> LatentTable:
        return LatentTable.open(self.latents, self.latents_version)

    def build(self) -> Generator:
        if self.init is not None:
            # Initial weights keep their statistics: a few clips of one person have quite different ones.
            generator = checkpoints.load_generator(self.init, preset=self.preset).train()
        else:
            moments = self.table.statistics
            generator = Generator(self.preset.generator, latent_mean=moments.mean, latent_std=moments.std)
        generator.activation_checkpointing = self.activation_checkpointing
        return generator

    def _windows(self, split: str, seed: int) -> LatentWindows:
        return LatentWindows(
            self.latents,
            self.preset.generator.window_latents,
            seed=seed,
            split=split,
            version=self.latents_version,
            mix=self.sources if split == "train" else EVERY_SOURCE,
        )

    def batches(self, stage_index: int, shard: DataShard) -> Iterator[Batch]:
        windows = self._windows("train", shard.seed)
        sampler = EpochSampler(
            len(windows),
            weights=windows.weights,
            seed=shard.seed,
            rank=shard.rank,
            world_size=shard.world_size,
            batch_size=self.stages[stage_index].batch_size,
            start_step=shard.start_step,
        )
        return batches(windows, sampler, readers=shard.readers)

    def loss(
        self, model: nn.Module, batch: Batch, *, seed: int, step: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        assert isinstance(model, Generator)
        rollout = draw_self_rollout(self.training, self.preset.sampling, seed, step)
        return flow_matching_loss(
            model,
            batch,
            config=self.training,
            rng=rng,
            rollout=rollout,
            learn_context=self.training.rollout_share > 0,
        )

    def window_loss(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> torch.Tensor:
        """The loss that an evaluation reports: the same quantity however the model is trained."""
        assert isinstance(model, Generator)
        return flow_matching_loss(model, batch, config=self.training, rng=rng)[0]

    def evaluate(self, model: nn.Module, stage_index: int) -> Evaluation:
        """The loss on held-out windows; with a VAE also how well a generated mouth follows the speech."""
        del stage_index
        assert isinstance(model, Generator)
        metrics = {self.loss_name: self._held_out_loss(model)}
        if self.vae is None:
            return Evaluation(metrics=metrics, remarks={"follow": "not measured: needs --vae"})
        vae = checkpoints.load_vae(self.vae, preset=self.preset).to(model.device)
        subject = GenerationSubject.synthetic(EVALUATION_SEED, size=self.preset.video.size)
        following = measure_following(vae, model, self.exported_preset, [subject])
        metrics |= following.metrics
        return Evaluation(metrics=metrics, pictures={"generated": follow_sheet(following.examples[0])})

    @torch.no_grad()
    def _held_out_loss(self, model: Generator) -> float:
        splits = {row["split"] for row in self.table.rows(("split",))}
        split = next((name for name in ("val", "test") if name in splits), "train")
        windows = self._windows(split, EVALUATION_SEED)
        draws = [
            Draw(index // len(windows), index % len(windows)) for index in range(self.evaluation_windows)
        ]
        size = min(self.training.batch_size, self.evaluation_windows)
        rng = torch.Generator().manual_seed(EVALUATION_SEED)
        losses = []
        for start in range(0, len(draws), size):
            batch = collate(windows.__getitems__(draws[start : start + size]))
            tensors = {
                name: value.to(model.device)
                for name, value in batch.items()
                if isinstance(value, torch.Tensor)
            }
            losses.append(float(self.window_loss(model, tensors, rng)))
        return float(np.mean(losses))

    def export(self, model: nn.Module, path: Path, *, extra: Mapping[str, Any]) -> None:
        vae_version, speech_encoder, look_ahead = self.table.makers()
        made_from = {
            "latents": self.latents,
            "latents_version": self.latents_version,
            "vae_version": vae_version,
            "speech_encoder": speech_encoder,
            "look_ahead_samples": look_ahead,
        }
        checkpoints.save_model(
            path, model, kind="generator", preset=self.exported_preset, extra={**made_from, **extra}
        )


def draw_self_rollout(
    training: GeneratorTrainingConfig, sampling: SamplingConfig, seed: int, step: int
) -> SelfRollout | None:
    """Whether and how a step's history is the model's own: the same on all ranks, so that none waits for another."""
    rng = np.random.default_rng((seed, step, 2))
    if rng.random() >= training.rollout_share:
        return None
    # 1 − u lies in (0, 1]: at timestep 0 there would be nothing to denoise.
    timestep = training.rollout_timestep_max * (1 - rng.random())
    few = dataclasses.replace(sampling, steps=training.rollout_steps, shift=1.0)
    return SelfRollout(sampling=few, timestep=timestep)

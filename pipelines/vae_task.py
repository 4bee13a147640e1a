"""Training of the reference-guided VAE (paper, "Implementation details"): progressive stages, L1 + LPIPS + KL.

LPIPS needs weights of its backbone; without them its weight in the loss is 0, which is logged, with a warning. The
number of references is drawn from (seed, step) alone, so that all ranks build the same graph.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines import reconstruction
from pipelines.augmentation import augment, jitter_references
from pipelines.evaluation import reconstruction_metrics
from pipelines.task import Batch, DataShard, Evaluation, TrainingStage
from portrait.media.contact_sheet import SheetRow, contact_sheet, error_map
from portrait.media.tensors import tensor_to_frames
from portrait.metrics.perceptual import LPIPS, find_backbone
from portrait.presets import OptimizerConfig, Preset, VAETrainingConfig, VAETrainingStage
from portrait.presets.serialization import to_dict
from portrait.storage import checkpoints
from portrait.storage.batches import batches
from portrait.storage.clip_collections import open_clips
from portrait.storage.clip_windows import ClipWindows
from portrait.storage.epoch_sampler import EpochSampler
from portrait.storage.mixture import EVERY_SOURCE, SourceMix
from portrait.vae import VideoVAE

logger = logging.getLogger(__name__)

SHEET_COLUMNS = 6


@dataclass(frozen=True, kw_only=True)
class VAETask:
    """Trains `preset.vae` on a clips table."""

    preset: Preset
    """The system whose VAE is trained."""
    clips: str
    """URI of the clips table."""
    clips_version: int
    """Version of the table that is read, also after a resume."""
    training: VAETrainingConfig
    """Loss weights, optimiser and training stages; the preset's, or overridden."""
    init: str | None = None
    """A VAE file to start from; None for new weights."""
    sources: SourceMix = EVERY_SOURCE
    """How often each source is visited, and up to which frame size."""
    activation_checkpointing: bool = False
    """Whether activations are recomputed in the backward pass."""
    evaluation_clips: int = 6
    """Held-out clips that an evaluation reconstructs."""
    evaluation_frames: int = 17
    """Frames of each of them."""
    kind: str = "vae"

    @property
    def stages(self) -> Sequence[TrainingStage]:
        return [_stage(stage) for stage in self.training.stages]

    @property
    def optimizer(self) -> OptimizerConfig:
        return self.training.optimizer

    def params(self) -> dict[str, Any]:
        return {
            "preset": self.preset.name,
            "vae": to_dict(self.preset.vae),
            "vae_training": to_dict(self.training),
            "clips": self.clips,
            "clips_version": self.clips_version,
            "init": self.init,
            "sources": to_dict(self.sources),
            "lpips_weight_used": self.lpips_weight,
        }

    @property
    def lpips_weight(self) -> float:
        """λ2 as it is used: 0 without weights of the backbone."""
        return self.training.lpips_weight if find_backbone(self.training.lpips_weights) else 0.0

    def build(self) -> VideoVAE:
        if self.init is not None:
            vae = checkpoints.load_vae(self.init, preset=self.preset).train()
        else:
            vae = VideoVAE(self.preset.vae)
        if self.training.same_place is not None:
            vae.decoder.d_ref.set_same_place(self.training.same_place)
        vae.encoder.requires_grad_(not self.training.freeze_encoder)
        vae.use_activation_checkpointing(self.activation_checkpointing)
        return vae

    def batches(self, stage_index: int, shard: DataShard) -> Iterator[Batch]:
        stage = self.training.stages[stage_index]
        windows = ClipWindows(
            self.clips,
            stage.size,
            stage.num_frames,
            max_references=self.training.max_references,
            seed=shard.seed,
            version=self.clips_version,
            mix=self.sources,
        )
        sampler = EpochSampler(
            len(windows),
            weights=windows.weights,
            seed=shard.seed,
            rank=shard.rank,
            world_size=shard.world_size,
            batch_size=stage.batch_size,
            start_step=shard.start_step,
        )
        return batches(windows, sampler, readers=shard.readers)

    def loss(
        self, model: nn.Module, batch: Batch, *, seed: int, step: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        assert isinstance(model, VideoVAE)
        training = self.training
        dtype = next(model.parameters()).dtype
        video, references = (_to_unit(batch[name], dtype) for name in ("video", "references"))
        video, references = augment(
            video, references, mirror=training.mirror, colour_jitter=training.colour_jitter, rng=rng
        )
        references = jitter_references(references, training.reference_jitter, rng)
        count = number_of_references(seed, step, training.max_references)
        posterior = model.encode(video)
        z = posterior.sample(rng)
        decoded = model.decode(z, references=references[:, :count] if count else None)
        l1 = (decoded - video).abs().float().mean()
        l2 = (decoded - video).float().square().mean()
        motion = (decoded.diff(dim=2) - video.diff(dim=2)).float().square().mean()
        kl = posterior.kl().float().mean() / (z.numel() / z.shape[0])
        loss = (
            training.l1_weight * l1
            + training.l2_weight * l2
            + training.motion_weight * motion
            + training.kl_weight * kl
        )
        metrics = {
            f"l1_m{count}": l1.detach(),
            "l2": l2.detach(),
            "motion": motion.detach(),
            "kl": kl.detach(),
        }
        if self.lpips_weight:
            lpips = self._lpips.to(video.device)(decoded, video).mean()
            loss = loss + self.lpips_weight * lpips
            metrics["lpips"] = lpips.detach()
        return loss, metrics

    @cached_property
    def _lpips(self) -> LPIPS:
        """LPIPS, outside the engine because it is not trained."""
        return LPIPS(self.training.lpips_weights)

    def evaluate(self, model: nn.Module, stage_index: int) -> Evaluation:
        """Reconstruction of held-out clips with every number of references that is trained; a picture of one clip."""
        assert isinstance(model, VideoVAE)
        size = self.training.stages[stage_index].size
        clips = self._held_out(size)
        counts = range(self.training.max_references + 1)
        metrics = reconstruction_metrics(model, clips, counts)
        sheet = reconstruction_sheet(clips[0], reconstruction.reconstruct(model, clips[0], counts))
        remarks = {} if self.lpips_weight else {"lpips": "not measured: needs LPIPS backbone weights"}
        return Evaluation(metrics=metrics, pictures={"reconstruction": sheet}, remarks=remarks)

    def _held_out(self, size: int) -> list[reconstruction.HeldOutClip]:
        table = open_clips(self.clips, self.clips_version)
        split = reconstruction.held_out_split(table, ("val", "test"))
        if split == "train":
            logger.warning("the clips table has neither val nor test clips: evaluating on training clips")
        return reconstruction.read_clips(
            table, split=split, size=size, count=self.evaluation_clips, num_frames=self.evaluation_frames
        )

    def export(self, model: nn.Module, path: Path, *, extra: Mapping[str, Any]) -> None:
        made_from: dict[str, Any] = {
            "clips": self.clips,
            "clips_version": self.clips_version,
            "lpips_weight": self.lpips_weight,
        }
        if self.training.freeze_encoder and self.init is not None:
            made_from["latents_version"] = checkpoints.read_header(self.init).latents_version
        preset = dataclasses.replace(self.preset, vae_training=self.training)
        checkpoints.save_model(path, model, kind="vae", preset=preset, extra={**made_from, **extra})


def number_of_references(seed: int, step: int, most: int) -> int:
    """The number of references of a step's batch: uniform on 0 … `most`, a function of (seed, step)."""
    return int(np.random.default_rng((seed, step, 1)).integers(0, most + 1))


def reconstruction_sheet(clip: reconstruction.HeldOutClip, made: Mapping[int, torch.Tensor]) -> np.ndarray:
    """A picture of a clip's reconstructions.

    Args:
        clip: the original.
        made: M → its reconstruction with M references, float [3, T, H, W] in [−1, 1].

    Returns:
        uint8 [H, W, 3]: rows of the references, the original, and each reconstruction with its error map.
    """
    shown = np.linspace(0, len(clip.frames) - 1, min(SHEET_COLUMNS, len(clip.frames))).round().astype(int)
    original = clip.frames[shown]
    rows = [SheetRow(label="references", frames=clip.references), SheetRow(label="original", frames=original)]
    for count, video in made.items():
        frames = tensor_to_frames(video)[shown]
        errors = [error_map(frame, truth) for frame, truth in zip(frames, original, strict=True)]
        rows.append(SheetRow(label=f"M = {count}", frames=frames))
        rows.append(SheetRow(label=f"error, M = {count}", frames=errors))
    return contact_sheet(rows)


def _stage(stage: VAETrainingStage) -> TrainingStage:
    return TrainingStage(
        name=f"{stage.size}²×{stage.num_frames}",
        steps=stage.steps,
        batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        cost=float(stage.batch_size * stage.num_frames * stage.size**2),
    )


def _to_unit(frames: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 frames to [−1, 1], after the transfer to the device: bytes are a quarter of floats."""
    return (frames.to(torch.float32) / 127.5 - 1).to(dtype)

"""How the two models are trained: part of a preset, overridable field by field on the command line.

Loss weights, optimiser and learning rates are not published; the choices here are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class VAEStage:
    """One stage of the progressive training (paper, "Implementation details")."""

    size: int
    """Side of the pictures in pixels."""
    num_frames: int
    """Frames of a training window, 1+T with T a multiple of 4."""
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Windows a worker and step."""
    learning_rate: float
    """Peak learning rate of the stage, reached after the warm-up and decayed along a cosine."""


@dataclass(frozen=True, kw_only=True)
class VAETrainingConfig:
    """Training of the VAE."""

    stages: tuple[VAEStage, ...]
    """Stages in order; each goes on from the last one's weights."""
    l1_weight: float = 1.0
    """λ1, weight of the mean absolute error on [−1, 1] pictures."""
    l2_weight: float = 0.0
    """Weight of the mean squared error of frames (ours). L1 asks for medians: a decoder that copies the reference where
    it is not sure leaves what moves where it was."""
    motion_weight: float = 0.0
    """Weight of the mean squared error of the change from each frame to the next (ours). A latent holds four frames,
    and L1 is nearly content with four alike."""
    lpips_weight: float = 1.0
    """λ2, weight of LPIPS; 0 (with a warning) where its backbone weights are missing."""
    lpips_weights: str | None = None
    """Folder with the LPIPS backbone weights; None where there are none."""
    kl_weight: float = 1e-6
    """Weight of the KL divergence per latent value."""
    max_references: int = 3
    """The number of references is drawn from 0 … this, alike on all ranks."""
    mirror: float = 0.5
    """Share of the examples that are mirrored left to right, references and all."""
    colour_jitter: float = 0.0
    """Strength 0 … 1 of a random change of an example's colours, references and all: for data of few people."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for matrices and kernels: fewer steps to the same error, whole float32 weights only (ZeRO 0)."""
    weight_decay: float = 0.01
    """The optimiser's weight decay."""
    gradient_clip: float = 1.0
    """Bound on the gradient's norm."""
    ema_decay: float = 0.999
    """Decay a step of the exponential moving average that is evaluated and exported."""


@dataclass(frozen=True, kw_only=True)
class GeneratorTrainingConfig:
    """Training of the generator on windows of latents, with teacher forcing."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Windows a worker and step."""
    learning_rate: float
    """Peak learning rate, reached after the warm-up and decayed along a cosine."""
    history_noise_max: float = 0.7
    """History is noised at a level drawn uniformly from 0 … this (digests of the paper)."""
    rollout_share: float = 0.0
    """Share 0 … 1 of the steps whose history is made by the model itself, against drift (`generator.rollout`)."""
    rollout_steps: int = 3
    """Euler steps in which it makes a block of that history."""
    rollout_level_max: float = 0.9
    """It makes them from true blocks noised to a level drawn uniformly from 0 … this."""
    timestep_shift: float = 3.0
    """Shift s of the uniformly drawn noise levels, t ↦ s·t / (1 + (s − 1)·t); below the sampler's 5, whose last step
    starts at 0.31, so that fewer steps and smaller shifts can be sampled too."""
    audio_dropout: float = 0.1
    """Share of windows whose audio becomes the null embedding."""
    reference_dropout: float = 0.1
    """Share of windows whose references become the null embedding."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for matrices and kernels: fewer steps to the same error, whole float32 weights only (ZeRO 0)."""
    weight_decay: float = 0.01
    """The optimiser's weight decay."""
    gradient_clip: float = 1.0
    """Bound on the gradient's norm."""
    ema_decay: float = 0.999
    """Decay a step of the exponential moving average that is evaluated and exported."""

    def __post_init__(self) -> None:
        if not 0 <= self.rollout_share <= 1 or not 0 < self.rollout_level_max <= 1:
            raise ValueError(
                f"generator_training: rollout_share must be in [0, 1] and rollout_level_max in (0, 1], got "
                f"{self.rollout_share} and {self.rollout_level_max}"
            )
        if self.rollout_steps < 1:
            raise ValueError(f"generator_training.rollout_steps must be at least 1, got {self.rollout_steps}")

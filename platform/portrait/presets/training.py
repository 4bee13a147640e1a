"""How the two models are trained: the part of a preset that the command line of a training job can set field by field.

The paper publishes neither loss weights nor optimiser nor learning rates; the values here are our own choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW, the warm-up of its learning rate, and the average of the weights. Each training stage has a peak learning
    rate of its own.
    """

    warmup_steps: int = 100
    """Steps at the start of each training stage over which the learning rate rises from 0 to its peak."""
    weight_decay: float = 0.01
    """Weight decay of matrices and kernels; biases, gains and tokens are not decayed."""
    gradient_clip: float = 1.0
    """Upper bound of the gradient's norm over all ranks; 0 does not clip."""
    ema_decay: float = 0.999
    """Decay per step of the exponential moving average of the weights, which is what is evaluated and exported."""

    def __post_init__(self) -> None:
        _check_range("optimizer.warmup_steps", self.warmup_steps, 0)
        _check_range("optimizer.weight_decay", self.weight_decay, 0)
        _check_range("optimizer.gradient_clip", self.gradient_clip, 0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"optimizer.ema_decay must be at least 0 and below 1, got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class VAETrainingStage:
    """One stage of the progressive training (paper, "Implementation details")."""

    size: int
    """Side of the frames in pixels."""
    num_frames: int
    """Frames of a training window, 1 + T with T a multiple of 4."""
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Windows per worker and step."""
    learning_rate: float
    """Peak learning rate of the stage, reached after the warm-up and decayed along a cosine."""

    def __post_init__(self) -> None:
        _check_schedule("stages", self.steps, self.batch_size, self.learning_rate)
        _check_range("stages: size", self.size, 1)
        if self.num_frames < 1 or self.num_frames % 4 != 1:
            raise ValueError(f"stages: num_frames must be 1 plus a multiple of 4, got {self.num_frames}")


@dataclass(frozen=True, kw_only=True)
class VAETrainingConfig:
    """Training of the VAE."""

    stages: tuple[VAETrainingStage, ...]
    """Training stages in order; each continues with the weights of the one before."""
    l1_weight: float = 1.0
    """λ1, weight of the mean absolute error of frames in [−1, 1]."""
    l2_weight: float = 0.0
    """Weight of the mean squared error of frames (not in the paper). L1 yields the median: an uncertain decoder
    copies the reference, and moving parts stay in place."""
    motion_weight: float = 0.0
    """Weight of the mean squared error of the change from each frame to the next (not in the paper). A latent holds
    four frames, and L1 barely penalises making all four alike."""
    lpips_weight: float = 1.0
    """λ2, weight of LPIPS; 0 (with a warning) without weights of its backbone."""
    lpips_weights: str | None = None
    """Folder with the weights of the LPIPS backbone; None if no weights are available."""
    kl_weight: float = 1e-6
    """Weight of the KL divergence per latent value."""
    max_references: int = 3
    """The number of references is drawn from 0 to this number, the same on all ranks."""
    mirror: float = 0.5
    """Share 0 … 1 of the examples that are mirrored left to right together with their references."""
    colour_jitter: float = 0.0
    """Strength 0 … 1 of a random change of an example's colours, references included: useful for data of few people."""
    reference_jitter: float = 0.0
    """Share 0 … 1 of the references that are rotated, scaled and shifted at random, each on its own, so that D_ref
    learns to find what is elsewhere in a reference."""
    same_place: float | None = None
    """Strength to which D_ref's pull to the same place in the references is set before training; None keeps that of the
    initial weights: 4.5 in new ones, with which D_ref hardly learns to look elsewhere. With 1.5 it does."""
    freeze_encoder: bool = False
    """Train only the decoder (D1, D_ref, D2). Latents do not change, so existing latents tables and the generators
    trained on them stay valid."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser, warm-up and weight average."""

    def __post_init__(self) -> None:
        for name in (
            "l1_weight",
            "l2_weight",
            "motion_weight",
            "lpips_weight",
            "kl_weight",
            "max_references",
        ):
            _check_range(name, getattr(self, name), 0)
        if self.same_place is not None:
            _check_range("same_place", self.same_place, 0)
        for name in ("mirror", "colour_jitter", "reference_jitter"):
            _check_range(name, getattr(self, name), 0, 1)


@dataclass(frozen=True, kw_only=True)
class GeneratorTrainingConfig:
    """Training of the generator on windows of latents, with teacher forcing."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Windows per worker and step."""
    learning_rate: float
    """Peak learning rate, reached after the warm-up and decayed along a cosine."""
    history_noise_max: float = 0.7
    """History is noised to a timestep drawn uniformly from 0 … this (digests of the paper)."""
    rollout_share: float = 0.0
    """Share 0 … 1 of the steps whose history is made by the model itself, against drift (see
    `generator.self_rollout`). Such a step takes about twice as long."""
    rollout_steps: int = 3
    """Euler steps in which it makes a block of that history."""
    rollout_timestep_max: float = 0.9
    """It makes them from true blocks noised to a timestep drawn uniformly from 0 … this."""
    timestep_shift: float = 3.0
    """Shift s of the uniformly drawn timesteps, t ↦ s·t / (1 + (s − 1)·t); below the sampler's 5, whose last step
    starts at 0.31, so that fewer steps and smaller shifts can be sampled too."""
    audio_dropout: float = 0.1
    """Share 0 … 1 of the windows whose audio is replaced by the null embedding."""
    reference_dropout: float = 0.1
    """Share 0 … 1 of the windows whose references are replaced by the null embedding."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser, warm-up and weight average."""

    def __post_init__(self) -> None:
        _check_schedule("generator_training", self.steps, self.batch_size, self.learning_rate)
        if not 0 <= self.rollout_share <= 1 or not 0 < self.rollout_timestep_max <= 1:
            raise ValueError(
                f"generator_training: rollout_share must be in [0, 1] and rollout_timestep_max in (0, 1], got "
                f"{self.rollout_share} and {self.rollout_timestep_max}"
            )
        if self.rollout_steps < 1:
            raise ValueError(f"generator_training.rollout_steps must be at least 1, got {self.rollout_steps}")
        for name in ("history_noise_max", "audio_dropout", "reference_dropout"):
            _check_range(name, getattr(self, name), 0, 1)
        if self.timestep_shift <= 0:
            raise ValueError(f"timestep_shift must be positive, got {self.timestep_shift}")


def _check_schedule(name: str, steps: int, batch_size: int, learning_rate: float) -> None:
    _check_range(f"{name}: steps", steps, 1)
    _check_range(f"{name}: batch_size", batch_size, 1)
    if learning_rate <= 0:
        raise ValueError(f"{name}: learning_rate must be positive, got {learning_rate}")


def _check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    if value >= low and (high is None or value <= high):
        return
    expected = f"at least {low}" if high is None else f"in [{low}, {high}]"
    raise ValueError(f"{name} must be {expected}, got {value}")

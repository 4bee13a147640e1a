"""A preset: one typed value that completely describes the video, the models and their training."""

from __future__ import annotations

from dataclasses import dataclass

from portrait.generator import GeneratorConfig, SamplingConfig
from portrait.presets.training import GeneratorTrainingConfig, VAETrainingConfig
from portrait.speech import SpeechConfig
from portrait.timing import FRAMES_PER_LATENT
from portrait.vae import VAEConfig


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Size and length of the portrait videos."""

    size: int
    """Side of the square frames in pixels (paper: 512)."""
    max_clip_seconds: float = 10.0
    """Longest clip of the training data (paper: 10 s)."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The complete configuration of a system: everything but its weights."""

    name: str
    """The name under which `presets.load` finds it."""
    video: VideoConfig
    """Size and length of the videos."""
    vae: VAEConfig
    """The video VAE."""
    speech: SpeechConfig
    """The speech encoder."""
    generator: GeneratorConfig
    """The latent generator."""
    sampling: SamplingConfig
    """The sampler's defaults."""
    vae_training: VAETrainingConfig
    """How the VAE is trained."""
    generator_training: GeneratorTrainingConfig
    """How the generator is trained."""

    def __post_init__(self) -> None:
        if self.video.size % self.vae.space_factor:
            raise ValueError(
                f"video.size must be a multiple of the VAE's spatial factor {self.vae.space_factor}, "
                f"got {self.video.size}"
            )
        if self.vae.time_factor != FRAMES_PER_LATENT:
            raise ValueError(
                f"vae: the levels must divide time by {FRAMES_PER_LATENT} in all, got {self.vae.time_factor}"
            )
        latent_size = self.video.size // self.vae.space_factor
        if self.generator.latent_size != latent_size:
            raise ValueError(
                f"generator.latent_size must be video.size / space_factor = {latent_size}, "
                f"got {self.generator.latent_size}"
            )
        if self.generator.latent_channels != self.vae.latent_channels:
            raise ValueError(
                f"generator.latent_channels must be the VAE's {self.vae.latent_channels}, "
                f"got {self.generator.latent_channels}"
            )

"""A preset: one typed value that describes the video, the model and its training whole."""

from __future__ import annotations

from dataclasses import dataclass

from portrait.generator.config import GeneratorConfig, SamplingConfig
from portrait.presets.training import GeneratorTrainingConfig, VAETrainingConfig
from portrait.speech.config import SpeechConfig
from portrait.vae.config import VAEConfig


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """What a portrait video is."""

    size: int
    """Side of the square picture in pixels (paper: 512)."""
    max_clip_seconds: float = 10.0
    """Longest clip of the training data (paper: 10 s)."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that tells one trained system from another, but for its weights."""

    name: str
    """What `presets.load` knows it by."""
    video: VideoConfig
    """Size of the pictures, length of the clips."""
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

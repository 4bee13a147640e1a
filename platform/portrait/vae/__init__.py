"""The reference-guided deep-compression video VAE."""

from portrait.vae.autoencoder import VideoVAE
from portrait.vae.config import FusionConfig, Level, VAEConfig
from portrait.vae.posterior import Posterior

__all__ = ["FusionConfig", "Level", "Posterior", "VAEConfig", "VideoVAE"]

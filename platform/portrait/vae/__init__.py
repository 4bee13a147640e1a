"""The reference-guided deep-compression video VAE."""

from portrait.layers.causal_conv import History as StreamState
from portrait.vae.autoencoder import VideoVAE
from portrait.vae.config import FusionConfig, Level, VAEConfig
from portrait.vae.posterior import Posterior

__all__ = ["FusionConfig", "Level", "Posterior", "StreamState", "VAEConfig", "VideoVAE"]

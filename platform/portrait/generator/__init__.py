"""The blockwise autoregressive latent generator: transformer, key-value cache, flow matching, guidance, sampler."""

from __future__ import annotations

from portrait.generator.cache import KeyValueCache
from portrait.generator.config import GeneratorConfig, SamplingConfig
from portrait.generator.flow import flow_matching_loss
from portrait.generator.model import Generator

__all__ = ["Generator", "GeneratorConfig", "KeyValueCache", "SamplingConfig", "flow_matching_loss"]

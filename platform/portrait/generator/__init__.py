"""The blockwise autoregressive latent generator: transformer, KV cache, flow matching, guidance, sampler."""

from __future__ import annotations

from portrait.generator.config import GeneratorConfig, SamplingConfig
from portrait.generator.flow_matching import flow_matching_loss
from portrait.generator.kv_cache import KVCache
from portrait.generator.model import Generator

__all__ = ["Generator", "GeneratorConfig", "KVCache", "SamplingConfig", "flow_matching_loss"]

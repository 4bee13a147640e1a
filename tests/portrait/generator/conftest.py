"""A generator at the tiny preset's sizes with random weights everywhere, also where training starts from zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portrait import presets
from portrait.generator import Generator, GeneratorConfig


@pytest.fixture(scope="session")
def generator_config() -> GeneratorConfig:
    return replace(presets.load("tiny").generator, num_layers=2)


@pytest.fixture(scope="session")
def generator(generator_config: GeneratorConfig, randomised) -> Generator:
    return randomised(Generator(generator_config))


@pytest.fixture
def window(generator_config):
    """A full window of two rows, one that begins a clip and one in mid-clip, as `Generator.forward` takes it."""
    config = generator_config
    shape = (2, config.latent_channels, config.window_latents, config.latent_size, config.latent_size)
    return {
        "history": torch.randn(shape),
        "noised": torch.randn(shape),
        "history_timestep": torch.zeros(2, config.window_blocks),
        "timestep": torch.rand(2, config.window_blocks),
        "references": torch.randn(2, 3, config.latent_channels, config.latent_size, config.latent_size),
        "speech": torch.randn(2, 4 * config.window_latents, config.speech_dim),
        "is_first": torch.tensor([True, False]),
    }

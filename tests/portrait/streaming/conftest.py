"""Models at the tiny preset's sizes with random weights everywhere, also where training starts from zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from portrait import presets
from portrait.generator import Generator, SamplingConfig
from portrait.speech import LogMelEncoder
from portrait.streaming import Portrait, prepare_portrait
from portrait.vae import VideoVAE

TINY = presets.load("tiny")


@pytest.fixture(scope="session")
def encoder() -> LogMelEncoder:
    return LogMelEncoder()


@pytest.fixture(scope="session")
def sampling() -> SamplingConfig:
    return SamplingConfig(steps=2)


@pytest.fixture(scope="session")
def generator(randomised) -> Generator:
    """Windows of four blocks: the first turns into the second at block 4."""
    return randomised(Generator(replace(TINY.generator, num_layers=2, window_latents=16)))


@pytest.fixture(scope="session")
def vae() -> VideoVAE:
    torch.manual_seed(11)
    return VideoVAE(TINY.vae).eval()


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="session")
def portraits(vae) -> list[Portrait]:
    """Three people, with one, three and one pictures."""
    return [prepare_portrait(vae, pictures(count, seed)) for seed, count in enumerate((1, 3, 1))]

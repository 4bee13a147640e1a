"""A preset too small to be good for anything but tests, and tables to train it on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from portrait import presets
from portrait.presets import Preset, VAETrainingStage
from portrait.storage.latents import LatentRow, LatentTable
from portrait.vae import FusionConfig, Level, VAEConfig


@pytest.fixture(scope="session")
def micro_preset() -> Preset:
    """`tiny` with narrow levels at 64², where a latent is one pixel."""
    tiny = presets.load("tiny")
    vae = VAEConfig(
        patch_size=4,
        encoder1=(Level(width=8, blocks=1, space=2, time=2), Level(width=16, blocks=1, space=2, time=2)),
        feature_channels=16,
        encoder2=(Level(width=16, blocks=1, space=2), Level(width=16, blocks=1, space=2)),
        latent_channels=64,
        decoder1=(Level(width=16, blocks=1, space=2), Level(width=16, blocks=1, space=2)),
        fusion=FusionConfig(num_layers=1, heads=2, head_dim=8, mlp_ratio=1.0),
        decoder2=(Level(width=16, blocks=1, space=2, time=2), Level(width=8, blocks=1, space=2, time=2)),
    )
    stages = (
        VAETrainingStage(size=64, num_frames=5, steps=4, batch_size=2, learning_rate=3e-3),
        VAETrainingStage(size=64, num_frames=9, steps=3, batch_size=1, learning_rate=1e-3),
    )
    optimizer = dataclasses.replace(tiny.vae_training.optimizer, warmup_steps=1)
    return dataclasses.replace(
        tiny,
        name="micro",
        video=dataclasses.replace(tiny.video, size=64),
        vae=vae,
        generator=dataclasses.replace(tiny.generator, latent_size=1, num_layers=1, heads=2, head_dim=12),
        sampling=dataclasses.replace(tiny.sampling, steps=2),
        vae_training=dataclasses.replace(tiny.vae_training, stages=stages, optimizer=optimizer),
        generator_training=dataclasses.replace(
            tiny.generator_training,
            steps=4,
            batch_size=2,
            optimizer=dataclasses.replace(tiny.generator_training.optimizer, warmup_steps=1),
        ),
    )


@pytest.fixture(scope="session")
def micro_latents(tmp_path_factory: pytest.TempPathFactory, micro_preset: Preset) -> str:
    """A latents table of random rows with known moments: mean 2, deviation 3."""
    uri = str(tmp_path_factory.mktemp("tables") / "latents.lance")
    rng = torch.Generator().manual_seed(0)
    size, dim = micro_preset.generator.latent_size, micro_preset.generator.speech_dim

    def row(number: int) -> LatentRow:
        mean = 2 + 3 * torch.randn(64, 9, size, size, generator=rng)
        return LatentRow(
            clip_id=f"clip{number}",
            identity=f"id{number}",
            split="val" if number == 0 else "train",
            vae_version="abc",
            num_frames=33,
            mean=mean,
            variance=torch.full_like(mean, 0.01),
            reference_latents=2 + 3 * torch.randn(3, 64, size, size, generator=rng),
            reference_frames=(0, 16, 32),
            speech=torch.randn(33, dim, generator=rng),
            speech_encoder="test",
            look_ahead_samples=1280,
        )

    LatentTable.append(uri, [row(number) for number in range(5)])
    return uri


@pytest.fixture
def output(tmp_path: Path) -> str:
    """An output folder."""
    return str(tmp_path / "run")

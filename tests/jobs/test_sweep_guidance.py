"""`jobs.sweep_guidance` from end to end with random weights: checks the chain and the report, not the values."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from jobs.sweep_guidance import SweepGuidance, main
from pipelines.guidance_sweep import METRICS
from portrait import presets
from portrait.generator import Generator, SamplingConfig
from portrait.storage.checkpoints import save_model
from portrait.vae import VideoVAE


@pytest.fixture
def config(tmp_path: Path) -> SweepGuidance:
    torch.manual_seed(0)
    tiny = presets.load("tiny")
    quick = dataclasses.replace(tiny, sampling=SamplingConfig(steps=1))
    generator = Generator(tiny.generator)
    with torch.no_grad():  # a new generator's gates are zero: neither speech nor references would matter
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for name, model in (("vae", VideoVAE(tiny.vae)), ("generator", generator)):
        save_model(tmp_path / f"{name}.safetensors", model, kind=name, preset=quick)
    return SweepGuidance(
        vae=tmp_path / "vae.safetensors",
        generator=tmp_path / "generator.safetensors",
        scales=(1.0, 2.0),
        subjects=1,
        seeds=2,
        seconds=0.6,
        output=tmp_path / "guidance",
    )


def test_every_pair_of_scales_is_a_row(config: SweepGuidance) -> None:
    rows = main(config)
    assert [(row.audio, row.reference) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all("identity" not in row.metrics for row in rows)
    assert len({row.metrics["colour"] for row in rows}) == 4  # every pair of scales makes another video
    with (config.output / "guidance.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["identity"] for row in table] == [""] * 4
    assert {*METRICS} < {*table[0]}
    assert "| 2 | 1 |" in (config.output / "guidance.md").read_text()
    assert (config.output / "guidance.png").exists()


def test_one_seed_has_no_diversity(config: SweepGuidance) -> None:
    with pytest.raises(ValueError, match="--seeds at least 2"):
        main(SweepGuidance(vae=config.vae, generator=config.generator, seeds=1))

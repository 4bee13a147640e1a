"""`jobs.measure_drift` with two generators side by side on the same portrait and speech; the weights are random."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from jobs.measure_drift import MeasureDrift, main
from portrait import presets, tracking
from portrait.generator import Generator
from portrait.storage.checkpoints import save_model
from portrait.vae import VideoVAE

TINY = presets.load("tiny")


@pytest.fixture
def config(tmp_path: Path) -> MeasureDrift:
    torch.manual_seed(0)
    vae = save_model(tmp_path / "vae.safetensors", VideoVAE(TINY.vae), kind="vae", preset=TINY)
    paths = []
    for name in ("plain", "rollout"):
        path = tmp_path / name / "generator.safetensors"
        path.parent.mkdir()
        extra = {"vae_version": vae.version}
        save_model(path, Generator(TINY.generator), kind="generator", preset=TINY, extra=extra)
        paths.append(path)
    return MeasureDrift(
        vae=tmp_path / "vae.safetensors",
        generator=tuple(paths),
        minutes=0.05,
        stretch_seconds=1.0,
        steps=1,
        output=tmp_path / "drift",
    )


def test_generators_are_reported_side_by_side(config: MeasureDrift) -> None:
    measured = main(config)
    assert {name: len(stretches) for name, stretches in measured.items()} == {
        "plain generator": 3,
        "rollout generator": 3,
    }
    table = (config.output / "drift.md").read_text()
    assert "| rollout generator | colour |" in table
    assert len(json.loads((config.output / "drift.json").read_text())["stretches"]["plain generator"]) == 3
    assert (config.output / "drift.png").exists()
    assert (config.output / "frames.png").exists()
    client = MlflowClient(tracking_uri=tracking.tracking_uri(config.output))
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    curve = client.get_metric_history(run.info.run_id, "colour/rollout generator")
    assert [point.value for point in curve] == pytest.approx(
        [s.colour for s in measured["rollout generator"]]
    )


def test_generators_with_the_same_name_are_refused(config: MeasureDrift) -> None:
    with pytest.raises(ValueError, match="would both be named 'plain generator'"):
        main(dataclasses.replace(config, generator=(config.generator[0], config.generator[0])))


def test_a_stream_that_is_too_short_is_refused(config: MeasureDrift) -> None:
    short = MeasureDrift(vae=config.vae, generator=config.generator, minutes=0.01)
    with pytest.raises(ValueError, match="--minutes"):
        main(short)

"""The benchmark's job runs what the preset can do, and writes it down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import benchmark_vae
from jobs.benchmark_vae import BenchmarkVAE


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (BenchmarkVAE(sizes=(100,)), "--sizes must be multiples of 64, got 100"),
        (BenchmarkVAE(frames=(16,)), r"--frames must be 1 \+ multiples of 4, got 16"),
        (BenchmarkVAE(references=(-1,)), "--references must not be negative"),
        (BenchmarkVAE(preset="huge"), "unknown preset 'huge'"),
    ],
)
def test_what_the_preset_cannot_do_is_named(config: BenchmarkVAE, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        benchmark_vae.cases_of(config)


@pytest.mark.slow
def test_the_job_measures_every_case_and_writes_it_down(tmp_path: Path) -> None:
    config = BenchmarkVAE(
        sizes=(64,), frames=(5, 37), references=(0, 1), repeats=1, device="cpu", output=tmp_path
    )
    costs = benchmark_vae.main(config)
    assert len(costs) == 8
    assert all(cost.encode_s > 0 and cost.decode_s > 0 for cost in costs)
    records = json.loads((tmp_path / "benchmark_vae.json").read_text())
    assert [record["num_frames"] for record in records] == [5, 5, 5, 5, 37, 37, 37, 37]
    assert (tmp_path / "benchmark_vae.md").read_text().count("| blocks |") == 4

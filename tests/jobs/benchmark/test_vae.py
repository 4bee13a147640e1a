"""The VAE's benchmark runs what the preset can do, counts the memory that is used, and writes its measurements down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs.benchmark import vae
from jobs.benchmark.vae import Case, Cost, VAEBenchmark


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (VAEBenchmark(sizes=(100,)), "--sizes must be positive multiples of 64, got 100"),
        (VAEBenchmark(frames=(16,)), r"--frames must be 1 \+ multiples of 4, got 16"),
        (VAEBenchmark(references=(1, -1)), "--references must not be negative, got -1"),
        (VAEBenchmark(repeats=0), "--repeats must be at least 1, got 0"),
        (VAEBenchmark(preset="huge"), "unknown preset 'huge'"),
    ],
)
def test_what_the_preset_cannot_do_is_refused(config: VAEBenchmark, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vae.cases_of(config)


def test_the_peak_is_what_was_allocated_in_between() -> None:
    def run() -> torch.Tensor:
        large = torch.ones(256, 2**20 // 4)  # 256 MiB, freed before the function ends
        return large[0].clone()

    seconds, mib = vae.time_and_memory(run, torch.device("cpu"), repeats=2)
    assert mib == pytest.approx(256, rel=0.05)
    assert seconds > 0


def test_a_row_says_what_was_measured() -> None:
    case = Case(preset="tiny", size=128, num_frames=17, references=2, streamed=True, device="cpu", repeats=1)
    cost = Cost(encode_s=0.5, decode_s=0.34, encode_mib=10.4, decode_mib=20.6)
    report = vae.report([(case, cost)], "an abacus")
    assert "| 128² | 17 | 2 | blocks | 0.500 | 10 | 0.340 | 21 | 50.0 |" in report.text
    assert "an abacus" in report.text
    assert report.metrics["decode_s/128_f17_m2_blocks"] == 0.34


@pytest.mark.slow
def test_the_job_measures_every_case_and_writes_it_down(tmp_path: Path) -> None:
    config = VAEBenchmark(
        sizes=(64,), frames=(5, 37), references=(0, 1), repeats=1, device="cpu", output=tmp_path
    )
    results = vae.main(config)
    assert len(results) == 8
    assert all(cost.encode_s > 0 and cost.decode_s > 0 for _, cost in results)
    records = json.loads((tmp_path / "benchmark_vae.json").read_text())
    assert [record["num_frames"] for record in records] == [5, 5, 5, 5, 37, 37, 37, 37]
    assert (tmp_path / "benchmark_vae.md").read_text().count("| blocks |") == 4

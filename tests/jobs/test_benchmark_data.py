"""The benchmark's job measures what it is asked for, writes it down, and refuses what it cannot measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import benchmark_data
from jobs.benchmark_data import BenchmarkData
from portrait import tracking
from portrait.storage.reading_benchmark import LANCE, LOOSE, SHARDS, STREAM
from portrait.synthetic import write_dataset


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({}, "--source: a folder of videos is needed"),
        ({"parts": ()}, "--parts: name at least one of chain, reading, training"),
        ({"parts": ("reading",)}, "--clips: a clips table is needed"),
        ({"repeats": 0}, "--repeats must be at least 1, got 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"steps": 1}, "--steps must be at least 2, got 1"),
        ({"preset": "huge"}, "unknown preset 'huge'"),
    ],
)
def test_what_cannot_be_measured_is_refused(flags: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        benchmark_data.main(BenchmarkData(**flags, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = BenchmarkData(parts=("reading",), clips=tmp_path / "none.lance", output=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no clips table at .*none\.lance"):
        benchmark_data.main(config)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_job_measures_all_parts_and_writes_them_down(tmp_path: Path) -> None:
    footage = tmp_path / "footage"
    write_dataset(footage, 2, 1, 1.4, 192, progress=False)
    output = tmp_path / "run"
    config = BenchmarkData(source=footage, repeats=1, windows=2, batch_size=2, steps=4, output=output)
    found = benchmark_data.main(config)

    text = (output / "benchmark_data.md").read_text()
    for name in ("face detection and track", LANCE, SHARDS, STREAM, LOOSE, "generator"):
        assert text.count(f"| {name} |") == 1
    records = json.loads((output / "benchmark_data.json").read_text())
    assert records.keys() == {"chain", "reading", "training"}
    assert len(records["chain"]["files"]) == 2
    assert [wait["steps"] for wait in records["training"]] == [2, 3]
    assert {
        "chain/ratio_cpu",
        "reading/windows_per_second/Lance",
        "training/wait_share/vae",
    } <= found.figures.keys()
    # The run holds the figures, and the trials' own files are gone.
    assert not list(output.glob("benchmark_data_*"))
    database = tracking.tracking_uri(output).removeprefix("sqlite:///")
    assert Path(database).is_file()
    assert list(output.rglob("mlartifacts/**/benchmark_data.md"))

"""Runs one of the benchmarks: `python -m jobs.benchmark {vae,data-preparation,data-reading} …`."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import subcommand

from jobs import command_line
from jobs.benchmark import data_preparation, data_reading, vae
from jobs.benchmark.data_preparation import DataPreparationBenchmark
from jobs.benchmark.data_reading import DataReadingBenchmark
from jobs.benchmark.vae import VAEBenchmark

Benchmark = (
    Annotated[VAEBenchmark, subcommand("vae")]
    | Annotated[DataPreparationBenchmark, subcommand("data-preparation")]
    | Annotated[DataReadingBenchmark, subcommand("data-reading")]
)


def main(config: Benchmark) -> None:
    """Runs the benchmark that the configuration belongs to."""
    match config:
        case VAEBenchmark():
            vae.main(config)
        case DataPreparationBenchmark():
            data_preparation.main(config)
        case DataReadingBenchmark():
            data_reading.main(config)


if __name__ == "__main__":
    command_line.run(main, Benchmark)  # type: ignore[arg-type] - a union of classes is not a class

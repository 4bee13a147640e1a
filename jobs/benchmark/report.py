"""What a benchmark leaves behind: a Markdown page, its measurements as JSON, and a run in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portrait import tracking


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of one benchmark."""

    text: str
    """Markdown, with the hardware that was measured."""
    records: Sequence[Mapping[str, Any]]
    """Every measurement, for JSON; paths become strings."""
    metrics: Mapping[str, float]
    """The main results under their names in MLflow."""


def publish(name: str, params: Mapping[str, Any], report: Report, output: Path) -> None:
    """Prints the page and writes `benchmark_NAME.md` and `.json`, which are also logged to MLflow.

    Args:
        name: the benchmark's name, with underscores.
        params: parameters of the MLflow run: the configuration and the hardware.
        report: the results.
        output: folder for the files and, if no MLflow server is set, for the tracking store; created if needed.
    """
    output.mkdir(parents=True, exist_ok=True)
    files = {
        output / f"benchmark_{name}.md": report.text,
        output / f"benchmark_{name}.json": json.dumps(report.records, indent=1, default=str),
    }
    with tracking.start_run("portrait", f"benchmark_{name}", params, output=output) as run:
        run.log_metrics(report.metrics, 0)
        for path, content in files.items():
            path.write_text(content)
            run.log_artifact(path)
    print(report.text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every row has as many cells as the header."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)

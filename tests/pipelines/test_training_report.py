"""Progress lines and curves: means over the steps since the last line, and a loss that is not finite ends training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipelines.training_checkpoints import TrainingProgress
from pipelines.training_report import TrainingReport

WAITING = {"step_seconds": 2.0, "wait_seconds": 0.5, "wait_share": 0.25}


class Curves:
    """Stands in for a tracked run."""

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((metrics, step))


def write(report: TrainingReport, **changed: Any) -> None:
    report.report_step(
        TrainingProgress(step=3, total_steps=7),
        **{
            "steps": 10,
            "budget_s": None,
            "learning_rate": 0.1,
            "waiting": WAITING,
            "gradient_norm": None,
            **changed,
        },
    )


def test_a_line_and_a_point_are_means_since_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    run: Any = Curves()
    report = TrainingReport("vae", run, accumulation=1, rank=0)
    report.add({"loss": torch.tensor(1.0), "l1_m0": torch.tensor(4.0)})
    report.add({"loss": torch.tensor(3.0)})
    write(report, gradient_norm=torch.tensor(0.5))
    line = capsys.readouterr().err
    assert line.startswith("[vae] step 3/10  loss 2.0000  l1_m0 4.0000")
    assert "25.0% waiting for data" in line
    (curves, step) = run.logged[0]
    assert step == 7
    assert (curves["train/loss"], curves["train/l1_m0"]) == (2.0, 4.0)
    assert (curves["train/learning_rate"], curves["train/gradient_norm"]) == (0.1, 0.5)
    assert curves["data/wait_seconds"] == 0.5

    report.add({"loss": 5.0})
    write(report)
    assert run.logged[1][0]["train/loss"] == 5.0
    assert "train/gradient_norm" not in run.logged[1][0]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_not_finite_is_an_error_on_every_rank(loss: float, rank: int) -> None:
    report = TrainingReport("vae", None, accumulation=1, rank=rank)
    report.add({"loss": loss})
    with pytest.raises(FloatingPointError, match="at step 7"):
        write(report)


def test_only_rank_0_prints(capsys: pytest.CaptureFixture[str]) -> None:
    report = TrainingReport("vae", None, accumulation=1, rank=1)
    report.add({"loss": 1.0})
    write(report)
    report.say("hello")
    assert capsys.readouterr().err == ""


def test_the_first_and_the_last_step_have_a_line() -> None:
    report = TrainingReport("vae", None, accumulation=1, rank=0)
    assert [step for step in range(1, 6) if report.is_due(step, 5)] == [1, 5]

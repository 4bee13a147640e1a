"""What a training run shows of itself: progress lines on the terminal, curves and evaluations in MLflow."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.task import Evaluation
from pipelines.training_checkpoints import TrainingProgress
from portrait import tracking

_SECONDS_BETWEEN_LINES = 5.0


class TrainingReport:
    """Averages what the steps logged, and prints and tracks it every few seconds.

    Args:
        kind: the task's kind, which begins every line.
        run: the tracked run; None does not track.
        accumulation: batches per optimiser step.
        rank: this worker; only rank 0 prints and tracks, all ranks check that the loss is finite.
    """

    def __init__(self, kind: str, run: tracking.Run | None, *, accumulation: int, rank: int) -> None:
        self._kind, self._run, self._rank = kind, run, rank
        self._accumulation = accumulation
        self._logged: list[Mapping[str, Any]] = []
        self.restart_clock()

    def restart_clock(self) -> None:
        """Restarts the measurement of speed at the beginning of a training stage."""
        self._printed_at = time.monotonic()

    def add(self, metrics: Mapping[str, Any]) -> None:
        """What one batch logged: floats or 0-d tensors, which are read only when a line is due."""
        self._logged.append(metrics)

    def is_due(self, step: int, steps: int) -> bool:
        """Whether step `step` of a training stage gets a line: the first, the last, and one every few seconds."""
        return time.monotonic() - self._printed_at >= _SECONDS_BETWEEN_LINES or step in (1, steps)

    def report_step(
        self,
        progress: TrainingProgress,
        *,
        steps: int,
        budget_s: float | None,
        learning_rate: float,
        waiting: Mapping[str, float],
        gradient_norm: Any,
    ) -> None:
        """Prints and tracks the means since the last line.

        Args:
            progress: where training stands.
            steps: optimiser steps of the training stage.
            budget_s: seconds that the training stage may take; None if there is no time limit.
            learning_rate: of the last step.
            waiting: `DataWait.metrics`.
            gradient_norm: of the last step, before clipping; None if the engine did not measure it.

        Raises:
            FloatingPointError: the mean loss is not finite.
        """
        means = _means(self._logged)
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(f"the loss is {means['loss']} at step {progress.total_steps}")
        now = time.monotonic()
        speed = len(self._logged) / self._accumulation / max(1e-9, now - self._printed_at)
        self._logged, self._printed_at = [], now
        if self._rank:
            return
        left_s = (steps - progress.step) / speed
        if budget_s:
            left_s = min(left_s, budget_s - progress.stage_elapsed_s)
        left = time.strftime("%H:%M:%S", time.gmtime(max(0.0, left_s)))
        shown = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.say(
            f"step {progress.step}/{steps}  {shown}  {speed:.2f} steps/s, "
            f"{waiting['wait_share']:.1%} waiting for data  {left} left in this training stage"
        )
        if self._run is not None:
            curves = {f"train/{name}": value for name, value in means.items()}
            curves |= {"train/learning_rate": learning_rate, "train/steps_per_second": speed}
            curves |= {f"data/{name}": value for name, value in waiting.items()}
            if gradient_norm is not None:
                curves["train/gradient_norm"] = float(gradient_norm)
            self._run.log_metrics(curves, progress.total_steps)

    def report_evaluation(self, evaluation: Evaluation, *, seconds: float, total_steps: int) -> None:
        """Prints and tracks an evaluation; called on rank 0."""
        shown = "  ".join(f"{name} {value:.3f}" for name, value in evaluation.metrics.items())
        self.say(f"evaluated in {seconds:.0f} s: {shown}")
        if self._run is None:
            return
        self._run.log_metrics(
            {f"eval/{name}": value for name, value in evaluation.metrics.items()}, total_steps
        )
        for name, remark in evaluation.remarks.items():
            self._run.set_tag(f"eval.{name}", remark)
        for name, picture in evaluation.pictures.items():
            self._run.log_image(picture, f"eval/{name}_{total_steps:07d}.png")

    def say(self, text: str) -> None:
        """Prints a line, on rank 0 only."""
        if self._rank == 0:
            # Not `print`: Ray Train patches it, and the line would appear twice.
            sys.stderr.write(f"[{self._kind}] {text}\n")
            sys.stderr.flush()


def _means(logged: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means by name, the loss first; a metric may be missing from some of the batches."""
    names = sorted({name for entry in logged for name in entry}, key=lambda name: (name != "loss", name))
    values = {name: [float(entry[name]) for entry in logged if name in entry] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}

"""How long a training step waits for its data, in short real training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.task import Task
from pipelines.trainer import fit
from pipelines.training_settings import TrainingSettings
from portrait import tracking


@dataclass(frozen=True, kw_only=True)
class TrainingWait:
    """What a run's steps took; the first step of each stage is not counted, since nothing is read ahead of it."""

    task: str
    """What was trained."""
    steps: int
    """Optimiser steps that count."""
    step_s: float
    """Seconds a step."""
    wait_s: float
    """Seconds of it that it waited for its batch."""

    @property
    def share(self) -> float:
        """Share of the steps' time that was spent waiting, 0 … 1."""
        return self.wait_s / self.step_s


def measure(name: str, task: Task, settings: TrainingSettings) -> TrainingWait:
    """Trains the task to its end and reads from its curves what its steps waited.

    Args:
        name: what to call it.
        task: with at least two steps a stage.
        settings: how to train it.

    Raises:
        ValueError: a stage has a single step.
    """
    for stage in task.stages:
        if stage.steps < 2:
            raise ValueError(f"{name}: a stage needs at least 2 steps, {stage.name} has {stage.steps}")
    run = fit(task, settings).run
    return of_run(name, run, first_steps=_first_steps(task))


def of_run(name: str, run: tracking.Run, first_steps: Sequence[int]) -> TrainingWait:
    """The waits of a tracked run.

    Args:
        name: what to call it.
        run: with the curves `data/step_seconds` and `data/wait_seconds`, a point for the steps since the last.
        first_steps: the first step of each stage, counted from 1; each has a point of its own.
    """
    curves = [dict(run.history(f"data/{curve}")) for curve in ("step_seconds", "wait_seconds")]
    counted, step_s, wait_s, last = 0, 0.0, 0.0, 0
    for step in sorted(curves[0]):
        if step not in first_steps:
            counted += step - last
            step_s += curves[0][step] * (step - last)
            wait_s += curves[1][step] * (step - last)
        last = step
    return TrainingWait(task=name, steps=counted, step_s=step_s / counted, wait_s=wait_s / counted)


def _first_steps(task: Task) -> list[int]:
    first, found = 1, []
    for stage in task.stages:
        found.append(first)
        first += stage.steps
    return found


def markdown(waits: Sequence[TrainingWait]) -> str:
    """A table, one row a task."""
    lines = ["| training | steps | s a step | of it waiting for data, ms | share |", "|---|---|---|---|---|"]
    lines += [
        f"| {wait.task} | {wait.steps} | {wait.step_s:.3f} | {1000 * wait.wait_s:.2f} | {wait.share:.2%} |"
        for wait in waits
    ]
    return "\n".join(lines) + "\n"

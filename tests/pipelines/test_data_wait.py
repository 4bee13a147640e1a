"""The time a step waits is what its batches take to come, and no more."""

from __future__ import annotations

import pytest

from pipelines.data_wait import DataWait


class Clock:
    """A clock that advances only when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def batches_after(clock: Clock, *seconds: float):
    for delay in seconds:
        clock.now += delay
        yield {"after": delay}


def test_waiting_and_computing_are_told_apart() -> None:
    clock = Clock()
    wait, batches = DataWait(clock), batches_after(clock, 3.0, 1.0, 0.0)
    with wait.step():  # two batches a step, as with accumulated gradients
        assert wait.take(batches) == {"after": 3.0}
        clock.now += 2.0
        wait.take(batches)
        clock.now += 2.0
    clock.now += 50.0  # an evaluation between steps is no part of them
    with wait.step():
        wait.take(batches)
        clock.now += 8.0
    assert wait.metrics() == {"step_seconds": 8.0, "wait_seconds": 2.0, "wait_share": 0.25}


def test_every_report_begins_anew() -> None:
    clock = Clock()
    wait = DataWait(clock)
    for seconds, expected in ((1.0, 1.0), (0.0, 0.0)):
        with wait.step():
            wait.take(batches_after(clock, seconds))
            clock.now += 1.0
        assert wait.metrics()["wait_seconds"] == pytest.approx(expected)

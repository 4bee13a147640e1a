"""How long training waits for its data: seconds per step, and their share of the steps' time.

`storage.batches` reads ahead, so that both are near 0 unless reading is slower than computing. The first step
of a training stage always waits: nothing was read ahead of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.task import Batch


class DataWait:
    """Sums how long steps take, and how much of it they wait for batches.

    Args:
        clock: seconds since some fixed time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._waited_s = self._stepped_s = 0.0
        self._steps = 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Times a step, including all the batches that it takes."""
        started = self._clock()
        yield
        self._stepped_s += self._clock() - started
        self._steps += 1

    def take(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; the time until it arrives counts as waiting."""
        started = self._clock()
        batch = next(batches)
        self._waited_s += self._clock() - started
        return batch

    def metrics(self) -> dict[str, float]:
        """Means over the steps since the last call, at least one: `step_seconds` and `wait_seconds` per step, and
        `wait_share` 0 … 1, the waiting's share of the steps' time.
        """
        assert self._steps
        metrics = {
            "step_seconds": self._stepped_s / self._steps,
            "wait_seconds": self._waited_s / self._steps,
            "wait_share": self._waited_s / max(self._stepped_s, 1e-9),
        }
        self._reset()
        return metrics

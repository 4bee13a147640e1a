"""How long training waits for its data: seconds a step, and the share of the steps' time that they are.

`storage.sampler.batches` reads ahead, so that both are near 0 unless reading is slower than computing. The first step
of a stage always waits: nothing could be read ahead of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.task import Batch


class DataWait:
    """Adds up what steps take, and what of it they wait for batches.

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
        """A step, with all the batches that it takes."""
        started = self._clock()
        yield
        self._stepped_s += self._clock() - started
        self._steps += 1

    def take(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, however long it takes to come."""
        started = self._clock()
        batch = next(batches)
        self._waited_s += self._clock() - started
        return batch

    def figures(self) -> dict[str, float]:
        """Of the steps since the last call, at least one: `step_seconds` and `wait_seconds` of a step, and the latter's
        share of the former, `wait_share` 0 … 1.
        """
        assert self._steps
        found = {
            "step_seconds": self._stepped_s / self._steps,
            "wait_seconds": self._waited_s / self._steps,
            "wait_share": self._waited_s / max(self._stepped_s, 1e-9),
        }
        self._reset()
        return found

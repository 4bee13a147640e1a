"""The order in which training visits rows: a function of seed and epoch, resumable at any step, the same for all ranks.

Lance's own samplers ignore `set_epoch` and reseed the global random state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """One visit of a row; all random choices about the item are a function of it and a seed."""

    epoch: int
    """Number of the visit: the epoch if every row is visited once per epoch."""
    row: int


class EpochSampler:
    """Endless batches of draws; usable as a `batch_sampler` of torch's DataLoader, or with `batches`.

    All ranks share one sequence, the permutations of epochs 0, 1, 2, … one after another. Step s of rank r takes
    `batch_size` draws from position (s · world_size + r) · batch_size. So every rank has a full batch at every step, no
    row is skipped, and tables smaller than a batch work too. With weights, the rows of each weight have permutations of
    their own, and an epoch takes draws from each in proportion to the weights.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 1,
        start_step: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
        """Sets the order.

        Args:
            num_rows: rows of the dataset.
            seed: seed of the order.
            rank: this worker, 0 … world_size − 1.
            world_size: number of workers.
            batch_size: draws per step and worker.
            start_step: number of steps already trained, which are skipped.
            weights: relative frequency of each row, above 0; None for equal frequencies.

        Raises:
            ValueError: a number is out of range.
        """
        for name, value, least in (
            ("num_rows", num_rows, 1),
            ("world_size", world_size, 1),
            ("batch_size", batch_size, 1),
            ("start_step", start_step, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0 … {world_size - 1}, got {rank}")
        if weights is not None and (len(weights) != num_rows or min(weights) <= 0):
            raise ValueError(f"weights must be {num_rows} numbers above 0")
        self._parts = [(np.arange(num_rows), num_rows)] if weights is None else _parts(np.asarray(weights))
        self.epoch_length = sum(visits for _, visits in self._parts)
        self.num_rows = num_rows
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.batch_size = batch_size
        self.start_step = start_step

    def epoch_order(self, epoch: int) -> list[Draw]:
        """The `epoch_length` draws of an epoch in order."""
        if len(self._parts) == 1:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.num_rows)
            return [Draw(epoch, int(row)) for row in order]
        draws = [
            draw
            for part, (rows, visits) in enumerate(self._parts)
            for draw in self._walk(part, rows, visits, epoch)
        ]
        return [draws[i] for i in np.random.default_rng((self.seed, epoch)).permutation(len(draws))]

    def _walk(self, part: int, rows: np.ndarray, visits: int, epoch: int) -> Iterator[Draw]:
        """An epoch's draws of the rows of one weight, whose permutations continue where the last epoch stopped."""
        place, end = epoch * visits, (epoch + 1) * visits
        while place < end:
            number, first = divmod(place, len(rows))
            order = np.random.default_rng((self.seed, part, number)).permutation(rows)
            taken = order[first : first + end - place]
            yield from (Draw(number, int(row)) for row in taken)
            place += len(taken)

    def __iter__(self) -> Iterator[list[Draw]]:
        place = (self.start_step * self.world_size + self.rank) * self.batch_size
        epoch, order = -1, []
        while True:
            batch = []
            for position in range(place, place + self.batch_size):
                if position // self.epoch_length != epoch:
                    epoch = position // self.epoch_length
                    order = self.epoch_order(epoch)
                batch.append(order[position % self.epoch_length])
            yield batch
            place += self.world_size * self.batch_size


def _parts(weights: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The rows of each weight, and their number of draws per epoch; in all about as many draws as rows."""
    parts = []
    for weight in np.unique(weights):
        rows = np.flatnonzero(weights == weight)
        visits = weight * len(rows) * len(weights) / weights.sum()
        parts.append((rows, max(1, round(float(visits)))))
    return parts

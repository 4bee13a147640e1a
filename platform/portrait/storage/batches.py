"""Batches of a dataset in a sampler's order, read ahead by threads while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch

from portrait.storage.epoch_sampler import Draw, EpochSampler


class BatchedDataset(Protocol):
    """A map-style dataset that reads several draws at once, by the method that torch's DataLoader calls too."""

    def __getitems__(self, draws: Sequence[Draw]) -> list[dict[str, Any]]: ...


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Items as a batch: tensors stacked, numbers and booleans as a tensor, anything else as a list."""
    batch: dict[str, Any] = {}
    for key, first in items[0].items():
        values = [item[key] for item in items]
        if isinstance(first, torch.Tensor):
            batch[key] = torch.stack(values)
        elif isinstance(first, bool | int | float):
            batch[key] = torch.tensor(values)
        else:
            batch[key] = values
    return batch


def batches(
    dataset: BatchedDataset, sampler: EpochSampler, *, prefetch: int = 4, readers: int = 1
) -> Generator[dict[str, Any], None, None]:
    """Collated batches in the sampler's order, read ahead so that training steps need not wait.

    Threads read, not processes: Lance does not survive a fork, and decoding releases the GIL (two threads
    on two cores read 1.8 times as many windows as one). An error while reading is raised at the step it belongs to.
    Closing the iterator ends the threads.

    Args:
        dataset: `ClipWindows` or `LatentWindows`; must be safe to use from several threads.
        sampler: the draws and their order.
        prefetch: batches read ahead; at least 1, and at least `readers`.
        readers: threads, each of which reads and decodes one batch at a time.
    """
    order = iter(sampler)
    with ThreadPoolExecutor(readers, thread_name_prefix="batches") as pool:

        def read_next() -> Future[dict[str, Any]]:
            return pool.submit(lambda draws: collate(dataset.__getitems__(draws)), next(order))

        ahead = deque(read_next() for _ in range(max(1, prefetch, readers)))
        try:
            while True:
                batch = ahead.popleft().result()
                ahead.append(read_next())
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

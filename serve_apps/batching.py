"""Runs a model in a thread of its own and combines the requests that are waiting into one batch.

The replica's event loop must stay free for health checks and other sessions' calls. While the thread is busy, requests
queue up; as soon as it is free, it takes all of them at once, up to the largest batch: no request waits for a batch to
fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Value = TypeVar("Value")


class BatchingThread(Generic[Request, Answer]):
    """One thread that answers batches of requests.

    Args:
        answer: called in the thread with 1 … max_batch requests; returns as many answers.
        max_batch: most requests in one call.
        name: the thread's name, for debuggers and profilers.
    """

    def __init__(
        self, answer: Callable[[Sequence[Request]], Sequence[Answer]], *, max_batch: int, name: str
    ) -> None:
        self._answer = answer
        self._max_batch = max_batch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: list[tuple[Request, asyncio.Future[Answer]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Answer:
        """The answer to one request; an error of its batch is raised here."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def call(self, function: Callable[..., Value], *args: Any) -> Value:
        """Runs another function in the same thread, so that it never overlaps with a batch."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [item for item in self._waiting[: self._max_batch] if not item[1].done()]
            del self._waiting[: self._max_batch]
            if not batch:
                continue
            try:
                answers = await loop.run_in_executor(
                    self._thread, self._answer, [request for request, _ in batch]
                )
            except Exception as error:  # noqa: BLE001  # whatever the model raises is passed on to the callers
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

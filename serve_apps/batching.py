"""Runs a model in a thread of its own and gathers the calls that are due together into one batch.

The replica's event loop must stay free for health checks and for other sessions' calls. While the thread works, calls
queue up; when it is free, it takes all of them (up to the largest batch) at once: nobody waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Value = TypeVar("Value")


class BatchingThread(Generic[Request, Reply]):
    """One thread that answers batches of requests."""

    def __init__(
        self, answer: Callable[[Sequence[Request]], Sequence[Reply]], *, max_batch: int, name: str
    ) -> None:
        """Starts the thread.

        Args:
            answer: called in the thread with 1 … max_batch requests; returns as many replies.
            max_batch: most requests of one call.
            name: the thread's name, for debuggers and profilers.
        """
        self._answer = answer
        self._max_batch = max_batch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Reply:
        """The reply to one request; an error of its batch is raised here."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def call(self, function: Callable[..., Value], *args: Any) -> Value:
        """Runs something else in the same thread, so that it never meets a batch in work."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def shutdown(self) -> None:
        """Ends the thread after its current batch."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [item for item in self._waiting[: self._max_batch] if not item[1].done()]
            del self._waiting[: self._max_batch]
            if not batch:
                continue
            try:
                replies = await loop.run_in_executor(
                    self._thread, self._answer, [request for request, _ in batch]
                )
            except Exception as error:  # noqa: BLE001  # whatever the model raises belongs to those who called
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), reply in zip(batch, replies, strict=True):
                if not future.done():
                    future.set_result(reply)


class LastUse:
    """When each session of a replica was last called, to forget those whose ingress is gone."""

    def __init__(self, abandoned_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._abandoned_after_s = abandoned_after_s
        self._clock = clock
        self._used: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._used

    def touch(self, session_id: str) -> None:
        """Notes a call."""
        self._used[session_id] = self._clock()

    def forget(self, session_id: str) -> None:
        """The session was closed."""
        self._used.pop(session_id, None)

    def abandoned(self) -> list[str]:
        """Sessions that were not called for too long."""
        limit = self._clock() - self._abandoned_after_s
        return [session_id for session_id, used in self._used.items() if used < limit]

"""What the three model deployments have in common: sessions, batches, health checks, and freeing abandoned sessions.

A deployment wraps an object that is independent of Ray and has its own tests (`SessionStage`), and adds the methods
that the handles in handles.py call. See encoder.py, generator.py and decoder.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch

from portrait.streaming import StageFullError
from serve_apps.arguments import Replicas
from serve_apps.batching import BatchingThread
from serve_apps.errors import ApiError
from serve_apps.limits import Limits
from serve_apps.messages import StageReply

_HEALTH_TIMEOUT_S = 30


class SessionRequest(Protocol):
    """A request that advances one session."""

    @property
    def session_id(self) -> str: ...


Request = TypeVar("Request", bound=SessionRequest)
Request_contra = TypeVar("Request_contra", bound=SessionRequest, contravariant=True)
Value = TypeVar("Value")


class SessionStage(Protocol[Request_contra, Value]):
    """A stream stage with its sessions. Plain and blocking; all calls come from one thread."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the weights, by model."""
        ...

    def step(self, requests: Sequence[Request_contra]) -> list[StageReply[Value]]:
        """Advances the sessions of the requests together; at most one request per session."""
        ...

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        ...


class SessionDeployment(Generic[Request, Value]):
    """Base of the model deployments. A subclass adds `open` and the method that advances a session.

    Args:
        name: of the stage, for error messages and the thread.
        stage: what the deployment wraps.
        replicas: threads and batch size of a replica.
        limits: when a session counts as abandoned.
    """

    def __init__(
        self, name: str, stage: SessionStage[Request, Value], replicas: Replicas, limits: Limits
    ) -> None:
        torch.set_num_threads(replicas.threads)
        self._name = name
        self._stage = stage
        self._last_use = LastUse(limits.abandoned_after_s)
        self._thread = BatchingThread(stage.step, max_batch=replicas.max_batch, name=name)

    async def versions(self) -> dict[str, str]:
        """Versions of the weights, by model."""
        return self._stage.versions

    async def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        self._last_use.forget(session_id)
        await self._thread.call(self._stage.close, session_id)

    async def check_health(self) -> None:
        """Called by Serve; raises `TimeoutError` when the model's thread no longer answers."""
        await asyncio.wait_for(self._thread.call(int), _HEALTH_TIMEOUT_S)

    async def _open(self, session_id: str, open_stage: Callable[[], None]) -> None:
        """Opens a session by calling `open_stage` in the model's thread; frees abandoned sessions first.

        Raises:
            ApiError: `full`, when the stage has no room.
        """
        for stale in [*self._last_use.abandoned(), session_id]:
            await self.close(stale)
        try:
            await self._thread.call(open_stage)
        except StageFullError as error:
            raise ApiError("full", str(error), 503) from error
        self._last_use.touch(session_id)

    async def _advance(self, request: Request) -> StageReply[Value]:
        """Advances a session, in one batch with other requests that are waiting.

        Raises:
            ApiError: `session_lost`, when the session is not open here; recovery.py then opens it with its last state.
        """
        if request.session_id not in self._last_use:
            raise ApiError("session_lost", f"{self._name}: this replica does not know the session", 503)
        self._last_use.touch(request.session_id)
        return await self._thread.submit(request)


class LastUse:
    """When each session of a replica was last called, in order to free those whose ingress is gone."""

    def __init__(self, abandoned_after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._abandoned_after_s = abandoned_after_s
        self._clock = clock
        self._used: dict[str, float] = {}

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._used

    def touch(self, session_id: str) -> None:
        """Records a call."""
        self._used[session_id] = self._clock()

    def forget(self, session_id: str) -> None:
        """Removes a closed session."""
        self._used.pop(session_id, None)

    def abandoned(self) -> list[str]:
        """Sessions whose last call was too long ago."""
        limit = self._clock() - self._abandoned_after_s
        return [session_id for session_id, used in self._used.items() if used < limit]

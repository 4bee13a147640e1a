"""Where a session moves when a replica dies: `RecoverableStages` reopens it on another one and repeats the call.

The ingress keeps the state that came with each stage's last reply. When a call fails with `session_lost`, the stage is
opened again with that state, on whichever replica the router picks, and the call is repeated: the stream continues with
a block that is late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from portrait.media.h264 import EncodedBlock
from serve_apps.errors import ApiError
from serve_apps.handles import StageHandle, StageHandles
from serve_apps.messages import SessionSettings, SpokenBlock, StageReply

logger = logging.getLogger("ray.serve")
Value = TypeVar("Value")

_RETRY_AFTER_S = (0.0, 0.1, 0.5, 2.0)
"""Pauses before each attempt to reopen a lost session: routers learn of a replica's death within a second or two."""


@dataclass(kw_only=True)
class _OpenSession:
    """What it takes to open a session again."""

    settings: SessionSettings
    states: dict[StageHandle, bytes] = field(default_factory=dict)


class RecoverableStages:
    """The stream stages as sessions see them (`sessions.SessionStages`), with recovery from the loss of a replica."""

    def __init__(self, handles: StageHandles) -> None:
        self.handles = handles
        self._all: tuple[StageHandle, ...] = (handles.encoder, handles.generator, handles.decoder)
        self._sessions: dict[str, _OpenSession] = {}

    async def open(self, session_id: str, settings: SessionSettings) -> None:
        """Opens a session in all stages.

        Raises:
            ApiError: no such portrait, or a stage has no room.
        """
        session = self._sessions[session_id] = _OpenSession(settings=settings)
        await asyncio.gather(*(self._open(handle, session_id, session) for handle in self._all))

    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> list[SpokenBlock]:
        """See `EncoderHandle.speech`."""
        encoder = self.handles.encoder
        return await self._advance(encoder, session_id, lambda: encoder.speech(session_id, samples, end))

    async def generate(self, session_id: str, features: np.ndarray) -> np.ndarray:
        """See `GeneratorHandle.generate`."""
        generator = self.handles.generator
        return await self._advance(generator, session_id, lambda: generator.generate(session_id, features))

    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> EncodedBlock:
        """See `DecoderHandle.decode`."""
        decoder = self.handles.decoder
        return await self._advance(decoder, session_id, lambda: decoder.decode(session_id, latents, frames))

    async def close(self, session_id: str) -> None:
        """Frees a session in all stages; a stage that cannot be reached has nothing left to free."""
        self._sessions.pop(session_id, None)
        calls = (handle.close(session_id) for handle in self._all)
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, ApiError):
                logger.warning("session %s: close: %s", session_id, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _open(self, handle: StageHandle, session_id: str, session: _OpenSession) -> None:
        await handle.open(session_id, session.settings, session.states.get(handle))

    async def _advance(
        self,
        handle: StageHandle,
        session_id: str,
        call: Callable[[], Coroutine[Any, Any, StageReply[Value]]],
    ) -> Value:
        """Makes a session's call; if its replica is gone, reopens the session elsewhere and makes the call again."""
        session = self._sessions[session_id]
        attempt = 0
        while True:
            try:
                if attempt:
                    await self._open(handle, session_id, session)
                reply = await call()
            except ApiError as error:
                if error.code != "session_lost" or attempt == len(_RETRY_AFTER_S):
                    raise
                logger.warning("session %s: %s; opening it on another replica", session_id, error)
                await asyncio.sleep(_RETRY_AFTER_S[attempt])
                attempt += 1
                continue
            session.states[handle] = reply.state
            return reply.value

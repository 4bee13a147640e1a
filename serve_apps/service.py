"""What the ingress's HTTP and WebSocket handlers share: slots, keys, and opening and closing sessions. Knows no
socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

from portrait.media.stream import FragmentedMP4Muxer
from portrait.timing import FIRST_BLOCK_FRAMES, FRAME_RATE, FRAMES_PER_BLOCK, SAMPLE_RATE
from serve_apps.limits import Limits
from serve_apps.protocol import ApiError, ServiceInfo, Start, Started
from serve_apps.sessions import Send, StreamSession
from serve_apps.stages import Stages

logger = logging.getLogger("ray.serve")


class PortraitService:
    """Serves streams, as many at a time as the limits allow."""

    def __init__(
        self, stages: Stages, limits: Limits, *, api_keys: Sequence[str] = (), slack_s: float | None = None
    ) -> None:
        """`slack_s`: how late audio may come before silence takes its place; by default one block."""
        self.stages = stages
        self.limits = limits
        self._api_keys = tuple(api_keys)
        self._slack_s = slack_s
        self._taken = 0
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def sessions(self) -> int:
        """Open streams."""
        return self._taken

    def authorise(self, api_key: str | None) -> str:
        """The owner that a caller with this key is.

        Raises:
            ApiError: keys are asked for, and this is none of them.
        """
        if not self._api_keys:
            return ""
        given = (api_key or "").encode()
        # All are compared, each in constant time: an answer's delay tells nothing about the keys.
        if not sum(hmac.compare_digest(given, key.encode()) for key in self._api_keys):
            raise ApiError(
                "unauthorised", "a valid API key is needed (header 'Authorization: Bearer …')", 401
            )
        return hashlib.sha256(given).hexdigest()[:16]

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """One of the session slots.

        Raises:
            ApiError: all are taken.
        """
        if self._taken >= self.limits.max_sessions:
            raise ApiError("full", f"all {self.limits.max_sessions} sessions are taken; try again later", 503)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    @contextlib.asynccontextmanager
    async def session(
        self, start: Start, owner: str, send: Send
    ) -> AsyncIterator[tuple[StreamSession, Started]]:
        """A session that is open in all stages, and closed in all of them at the end, whatever happens.

        Raises:
            ApiError: no such portrait, or a stage has no room.
        """
        facts = await self.stages.facts()
        session_id = secrets.token_urlsafe(16)
        seed = secrets.randbits(62) if start.seed is None else start.seed
        slack = FRAMES_PER_BLOCK / FRAME_RATE if self._slack_s is None else self._slack_s
        try:
            await self.stages.open(session_id, start, seed, owner)
            session = StreamSession(
                session_id=session_id,
                stages=self.stages,
                facts=facts,
                limits=self.limits,
                send=send,
                slack_s=slack if start.idle else None,
            )
            started = Started(
                session_id=session_id,
                portrait_id=start.portrait_id,
                seed=seed,
                width=facts.size,
                height=facts.size,
                fps=FRAME_RATE,
                media_type=session.media_type,
                first_block_frames=FIRST_BLOCK_FRAMES,
                block_frames=FRAMES_PER_BLOCK,
                look_ahead_s=facts.look_ahead_samples / SAMPLE_RATE,
                models=facts.versions,
            )
            yield session, started
        finally:
            # In a task of its own: the handler may be in the middle of being cancelled, and the stages must be freed.
            task = asyncio.create_task(self.stages.close(session_id))
            self._closing.add(task)
            task.add_done_callback(self._closed)

    async def info(self) -> ServiceInfo:
        """What is served, and how busy this replica is."""
        facts = await self.stages.facts()
        return ServiceInfo(
            preset=facts.preset,
            width=facts.size,
            height=facts.size,
            fps=FRAME_RATE,
            sample_rate=SAMPLE_RATE,
            media_type=FragmentedMP4Muxer(facts.size, facts.size, fps=FRAME_RATE).mime_type,
            first_block_frames=FIRST_BLOCK_FRAMES,
            block_frames=FRAMES_PER_BLOCK,
            look_ahead_s=facts.look_ahead_samples / SAMPLE_RATE,
            models=facts.versions,
            sessions=self.sessions,
            max_sessions=self.limits.max_sessions,
            needs_api_key=bool(self._api_keys),
        )

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("closing a session failed: %r", error)

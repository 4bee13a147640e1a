"""What the ingress's HTTP and WebSocket handlers share: session slots, and opening and closing sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Iterator

from portrait.media.fragmented_mp4 import FragmentedMP4Muxer
from portrait.timing import FIRST_BLOCK_FRAMES, FRAME_RATE, FRAMES_PER_BLOCK, SAMPLE_RATE
from serve_apps.auth import ApiKeys
from serve_apps.errors import ApiError
from serve_apps.handles import StageHandles
from serve_apps.limits import Limits
from serve_apps.messages import ModelFacts, SessionSettings
from serve_apps.pacing import PLAY_AFTER_S
from serve_apps.protocol import ServiceInfo, Start, Started
from serve_apps.recovery import RecoverableStages
from serve_apps.sessions import Send, StreamSession

logger = logging.getLogger("ray.serve")


class PortraitService:
    """Serves streams, as many at a time as the limits allow. Independent of sockets.

    Args:
        handles: of the model deployments.
        limits: what clients may ask for.
        api_keys: the accepted keys.
        slack_s: how late audio may come before silence takes its place; by default one block.
    """

    def __init__(
        self,
        handles: StageHandles,
        limits: Limits,
        *,
        api_keys: ApiKeys | None = None,
        slack_s: float | None = None,
    ) -> None:
        self.portraits = handles.encoder
        self.limits = limits
        self.api_keys = api_keys or ApiKeys()
        self._handles = handles
        self._stages = RecoverableStages(handles)
        self._slack_s = FRAMES_PER_BLOCK / FRAME_RATE if slack_s is None else slack_s
        self._facts: ModelFacts | None = None
        self._used_slots = 0
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def sessions(self) -> int:
        """Number of open streams."""
        return self._used_slots

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Occupies one of the session slots.

        Raises:
            ApiError: all are in use.
        """
        if self._used_slots >= self.limits.max_sessions:
            raise ApiError(
                "full", f"all {self.limits.max_sessions} sessions are in use; try again later", 503
            )
        self._used_slots += 1
        try:
            yield
        finally:
            self._used_slots -= 1

    @contextlib.asynccontextmanager
    async def session(
        self, start: Start, owner: str, send: Send
    ) -> AsyncIterator[tuple[StreamSession, Started]]:
        """Opens a session in all stages, and closes it in all of them at the end, whatever happens.

        Raises:
            ApiError: no such portrait, or a stage has no room.
        """
        facts = await self._model_facts()
        session_id = secrets.token_urlsafe(16)
        settings = SessionSettings(
            portrait_id=start.portrait_id,
            owner=owner,
            seed=secrets.randbits(62) if start.seed is None else start.seed,
            audio_guidance=start.audio_guidance,
            reference_guidance=start.reference_guidance,
        )
        try:
            await self._stages.open(session_id, settings)
            session = StreamSession(
                session_id=session_id,
                stages=self._stages,
                facts=facts,
                limits=self.limits,
                send=send,
                slack_s=self._slack_s if start.idle else None,
            )
            started = Started(
                session_id=session_id,
                portrait_id=start.portrait_id,
                seed=settings.seed,
                width=facts.size,
                height=facts.size,
                fps=FRAME_RATE,
                media_type=session.media_type,
                first_block_frames=FIRST_BLOCK_FRAMES,
                block_frames=FRAMES_PER_BLOCK,
                look_ahead_s=facts.look_ahead_samples / SAMPLE_RATE,
                play_after_s=PLAY_AFTER_S,
                models=facts.versions,
            )
            yield session, started
        finally:
            # In a task of its own: the stages must be freed even if the handler is being cancelled.
            task = asyncio.create_task(self._stages.close(session_id))
            self._closing.add(task)
            task.add_done_callback(self._closed)

    async def info(self) -> ServiceInfo:
        """What is served, and how busy this replica is."""
        facts = await self._model_facts()
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
            needs_api_key=self.api_keys.required,
        )

    async def _model_facts(self) -> ModelFacts:
        if self._facts is None:
            self._facts = await self._handles.facts()
        return self._facts

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("closing a session failed: %r", error)

"""One stream: audio in, blocks of media out. Independent of sockets and Ray.

The session passes exactly as many samples to the speech stage as the next block and its look-ahead need; pacing.py says
how long it waits for them. Two tasks run at once: one generates latents, the other decodes, muxes and sends, so that a
block is generated while the previous one is decoded.

Positions in the audio are sample numbers at 16 kHz, counted over everything that was passed to the speech stage.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from portrait.media.fragmented_mp4 import FragmentedMP4Muxer
from portrait.media.h264 import EncodedBlock
from portrait.timing import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, block_frame_range
from serve_apps.audio_queue import AudioQueue, TakenAudio
from serve_apps.limits import Limits
from serve_apps.messages import ModelFacts, SpokenBlock
from serve_apps.pacing import Pacing
from serve_apps.protocol import BlockEvent, Cleared, Ended

Send = Callable[[BlockEvent | None, bytes], Awaitable[None]]
"""Sends a block's event and its media, in this order with nothing in between; the last media have no event."""


class SessionStages(Protocol):
    """The stream stages as an open session sees them; a session has at most one pending call per stage."""

    async def speech(self, session_id: str, samples: np.ndarray, end: bool) -> list[SpokenBlock]:
        """Takes samples float32 [S], the last ones with `end`; returns the blocks that are ready now."""
        ...

    async def generate(self, session_id: str, features: np.ndarray) -> np.ndarray:
        """Turns the next block's features float32 [13 or 16, F] into latents float32 [C_z, 4, h, w]."""
        ...

    async def decode(self, session_id: str, latents: np.ndarray, frames: int) -> EncodedBlock:
        """Decodes the next block's latents; returns its first `frames` frames as H.264."""
        ...


@dataclass(frozen=True, kw_only=True)
class _GeneratedBlock:
    """A block on its way from the generator to the client."""

    epoch: int
    begin: int
    latents: np.ndarray
    spoken: SpokenBlock
    silence: int
    complete_at: float
    speech_s: float
    generate_s: float


@dataclass(kw_only=True)
class SentTotals:
    """What a session has sent and dropped so far."""

    blocks: int = 0
    """Blocks sent."""
    frames: int = 0
    """Frames sent."""
    silence: int = 0
    """Samples of silence that replaced late audio."""
    dropped: int = 0
    """Samples that were dropped by `clear`."""

    @property
    def seconds(self) -> float:
        """Length of the media sent."""
        return self.frames / FRAME_RATE


@dataclass(kw_only=True)
class StreamSession:
    """A stream from `start` to `end`."""

    session_id: str
    """Cannot be guessed; identifies the session in every stage."""
    stages: SessionStages
    """Where speech features, latents and frames are computed."""
    facts: ModelFacts
    """Frame size and look-ahead of the models."""
    limits: Limits
    """Bounds on waiting audio, blocks in flight and the distance to the player."""
    send: Send
    """Receives the media."""
    slack_s: float | None
    """How late audio may come before silence takes its place; None waits for it."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; tests pass their own."""
    audio: AudioQueue = field(init=False)
    """Takes the client's audio."""
    pacing: Pacing = field(init=False)
    """When audio is late, and how far the stream may run ahead of the player."""
    sent: SentTotals = field(init=False, default_factory=SentTotals)
    """What was sent so far."""

    def __post_init__(self) -> None:
        self.audio = AudioQueue(int(self.limits.max_buffered_audio_s * SAMPLE_RATE), self.clock)
        self.pacing = Pacing(slack_s=self.slack_s, max_ahead_s=self.limits.max_ahead_s, clock=self.clock)
        self._muxer = FragmentedMP4Muxer(self.facts.size, self.facts.size, fps=FRAME_RATE)
        self._blocks: asyncio.Queue[_GeneratedBlock | None] = asyncio.Queue(self.limits.max_blocks_in_flight)
        self._sending = asyncio.Lock()
        self._epoch = 0  # how many times the session was cleared
        self._consumed = 0  # position up to which the speech stage has the audio
        self._settled = 0  # position up to which the audio was sent or dropped
        self._cleared_to = 0  # position before which no sound may be heard any more

    @property
    def media_type(self) -> str:
        """The type to open a browser's `MediaSource` with."""
        return self._muxer.mime_type

    async def run(self) -> Ended:
        """Makes and sends blocks until the audio has ended and all of it is spoken.

        Raises:
            ApiError: a stage failed.
        """
        tasks = [asyncio.create_task(self._generate()), asyncio.create_task(self._deliver())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Ended(
            frames=self.sent.frames,
            seconds=self.sent.seconds,
            blocks=self.sent.blocks,
            silence_s=self.sent.silence / SAMPLE_RATE,
            dropped_s=self.sent.dropped / SAMPLE_RATE,
        )

    async def clear(self, confirm: Callable[[Cleared], Awaitable[None]]) -> None:
        """Drops the waiting audio and the blocks that were not sent; none of them is sent after `confirm`."""
        async with self._sending:
            self._epoch += 1
            dropped = self.audio.clear() + self._consumed - self._settled
            # The speech stage has used some of the dropped audio as look-ahead; the client must not hear it.
            self._settled = self._cleared_to = self._consumed
            self.sent.dropped += dropped
            await confirm(Cleared(dropped_s=dropped / SAMPLE_RATE, media_s=self.sent.seconds))

    async def _generate(self) -> None:
        """Audio → speech features → latents, block by block, until the audio has ended."""
        block, ended = 0, False
        while not ended:
            await self.pacing.wait_for_player(lambda: self.sent.seconds)
            end = SAMPLES_PER_FRAME * block_frame_range(block)[1] + self.facts.look_ahead_samples
            needed = max(end - self._consumed, SAMPLES_PER_FRAME)
            taken = await self.audio.take(needed, self.pacing.deadline(self._consumed, needed))
            epoch, ended = self._epoch, len(taken.samples) < needed
            self._consumed += len(taken.samples)
            begin = self.clock()
            for spoken in await self.stages.speech(self.session_id, taken.samples, ended):
                await self._make_latents(spoken, taken, epoch, self.clock() - begin)
                block += 1
        await self._blocks.put(None)

    async def _make_latents(
        self, spoken: SpokenBlock, taken: TakenAudio, epoch: int, speech_s: float
    ) -> None:
        begin = self.clock()
        latents = await self.stages.generate(self.session_id, spoken.features)
        block = _GeneratedBlock(
            epoch=epoch,
            begin=SAMPLES_PER_FRAME * block_frame_range(spoken.index)[0],
            latents=latents,
            spoken=spoken,
            silence=taken.silence,
            complete_at=taken.complete_at,
            speech_s=speech_s,
            generate_s=self.clock() - begin,
        )
        await self._blocks.put(block)

    async def _deliver(self) -> None:
        """Latents → H.264 → fragments → client, in order; drops blocks from before a `clear`."""
        while (block := await self._blocks.get()) is not None:
            # A dropped block is decoded nevertheless: the decoder's history must follow the generator's.
            begin = self.clock()
            encoded = await self.stages.decode(self.session_id, block.latents, block.spoken.frames)
            decode_s = self.clock() - begin
            async with self._sending:
                if block.epoch == self._epoch:
                    await self._send(block, self._muxer.add_block(encoded, self._sound(block)), decode_s)
        if self.sent.blocks and (tail := self._muxer.close()):
            await self.send(None, tail)

    def _sound(self, block: _GeneratedBlock) -> np.ndarray:
        """The block's sound, with silence where it was cleared."""
        sound = block.spoken.audio.copy()
        sound[: max(0, self._cleared_to - block.begin)] = 0
        return sound

    async def _send(self, block: _GeneratedBlock, media: bytes, decode_s: float) -> None:
        frames = block.spoken.frames
        event = BlockEvent(
            index=self.sent.blocks,
            frames=frames,
            start_s=self.sent.seconds,
            seconds=frames / FRAME_RATE,
            silence_s=block.silence / SAMPLE_RATE,
            latency_ms=_ms(self.clock() - block.complete_at),
            speech_ms=_ms(block.speech_s),
            generate_ms=_ms(block.generate_s),
            decode_ms=_ms(decode_s),
            bytes=len(media),
        )
        self.sent.blocks += 1
        self.sent.frames += frames
        self.sent.silence += block.silence
        self._settled = max(self._settled, min(self._consumed, block.begin + len(block.spoken.audio)))
        await self.send(event, media)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)

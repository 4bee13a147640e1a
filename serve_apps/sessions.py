"""One stream: audio in, blocks of media out. Knows neither sockets nor Ray.

The session gives the speech stage exactly as many samples as the next block and its look-ahead need. When they don't
come in time, silence takes their place, so that the portrait stays alive in real time. Two tasks work at once: one
makes latents, the other decodes, muxes and sends, so that a block is generated while the one before it is decoded.

Positions in the audio are absolute sample numbers at 16 kHz, counted over all that the speech stage was given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from portrait.media.stream import FragmentedMP4Muxer
from portrait.timing import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, block_frame_range
from serve_apps.limits import Limits
from serve_apps.protocol import ApiError, BlockEvent, Cleared, Ended
from serve_apps.stages import ModelFacts, SessionStages, SpokenBlock

Send = Callable[[BlockEvent | None, bytes], Awaitable[None]]
"""Sends a block's event and its media, in this order and with nothing between them; the last media have no event."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Samples for a block."""

    samples: np.ndarray
    """float32 [S], as many as were asked for, or fewer when the audio has ended."""
    silence: int
    """How many of them are silence in the place of audio that did not come."""
    complete_at: float
    """When the last of them was there, on the clock."""


class AudioQueue:
    """Samples that wait to be spoken."""

    def __init__(self, max_samples: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_samples = max_samples
        self._clock = clock
        self._chunks: list[np.ndarray] = []
        self._changed = asyncio.Event()
        self._complete_at = clock()
        self.samples = 0
        self.ended = False

    def push(self, samples: np.ndarray) -> None:
        """Adds float32 samples.

        Raises:
            ApiError: more audio waits than the limits allow, or audio comes after the end.
        """
        if self.ended:
            raise ApiError("audio_after_end", "audio came after 'end'", 409)
        if self.samples + len(samples) > self._max_samples:
            limit = self._max_samples / SAMPLE_RATE
            message = f"more than {limit:g} s of audio wait to be spoken; send at the pace of speech, or use /v1/videos"
            raise ApiError("too_much_audio", message, 413)
        self._append(samples)

    def fill(self, samples: np.ndarray) -> None:
        """A whole recording at once, of any length, after which no more comes."""
        self._append(samples)
        self.end()

    def end(self) -> None:
        """No more audio will come."""
        self.ended = True
        self._changed.set()

    def clear(self) -> int:
        """Drops what waits; returns how many samples that was."""
        dropped, self.samples = self.samples, 0
        self._chunks.clear()
        return dropped

    async def take(self, count: int, deadline: float | None) -> Taken:
        """Waits for `count` samples, the end, or the deadline, after which silence fills up what is missing."""
        while self.samples < count and not self.ended:
            self._changed.clear()
            remaining = None if deadline is None else deadline - self._clock()
            try:
                await asyncio.wait_for(self._changed.wait(), remaining)
            except TimeoutError:
                samples = self._cut(self.samples)
                silence = count - len(samples)
                return Taken(
                    samples=np.pad(samples, (0, silence)), silence=silence, complete_at=self._clock()
                )
        return Taken(samples=self._cut(min(count, self.samples)), silence=0, complete_at=self._complete_at)

    def _append(self, samples: np.ndarray) -> None:
        self._chunks.append(samples)
        self.samples += len(samples)
        self._complete_at = self._clock()
        self._changed.set()

    def _cut(self, count: int) -> np.ndarray:
        joined = np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.float32)
        rest = joined[count:]
        self._chunks = [rest] if len(rest) else []
        self.samples = len(rest)
        return joined[:count]


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A generated block on its way to the client."""

    epoch: int
    begin: int
    latents: np.ndarray
    spoken: SpokenBlock
    silence: int
    complete_at: float
    speech_s: float
    generate_s: float


@dataclass(kw_only=True)
class Progress:
    """Counts of a session."""

    blocks: int = 0
    """Blocks sent."""
    frames: int = 0
    """Frames sent."""
    silence: int = 0
    """Samples of silence that took the place of audio that did not come."""
    dropped: int = 0
    """Samples that were interrupted away."""


@dataclass(kw_only=True)
class StreamSession:
    """A stream from `start` to `end`."""

    session_id: str
    """Unguessable; names the session in every stage."""
    stages: SessionStages
    """Where the work is done."""
    facts: ModelFacts
    """Sizes and rates of the models."""
    limits: Limits
    """Bounds."""
    send: Send
    """Takes what is made."""
    slack_s: float | None
    """How late audio may come before silence takes its place; None waits for it."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; tests bring their own."""
    audio: AudioQueue = field(init=False)
    """Where the audio goes in."""
    progress: Progress = field(init=False, default_factory=Progress)
    """What was sent so far."""

    def __post_init__(self) -> None:
        self.audio = AudioQueue(int(self.limits.max_buffered_audio_s * SAMPLE_RATE), self.clock)
        self._muxer = FragmentedMP4Muxer(self.facts.size, self.facts.size, fps=FRAME_RATE)
        self._blocks: asyncio.Queue[_Block | None] = asyncio.Queue(self.limits.max_blocks_in_flight)
        self._sending = asyncio.Lock()
        self._epoch = 0  # how many times the session was cleared
        self._given = 0  # position up to which the speech stage has the audio
        self._settled = 0  # position up to which the audio was sent or dropped
        self._cleared_to = 0  # position before which no sound may be heard any more
        self._playhead_s: float | None = None
        self._playhead_moved = asyncio.Event()

    @property
    def media_type(self) -> str:
        """What a browser's `MediaSource` is opened with."""
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
            frames=self.progress.frames,
            seconds=self.progress.frames / FRAME_RATE,
            blocks=self.progress.blocks,
            silence_s=self.progress.silence / SAMPLE_RATE,
            dropped_s=self.progress.dropped / SAMPLE_RATE,
        )

    async def clear(self, confirm: Callable[[Cleared], Awaitable[None]]) -> None:
        """Drops the audio that waits and the blocks that were not sent; after `confirm` none of them is sent."""
        async with self._sending:
            self._epoch += 1
            dropped = self.audio.clear() + self._given - self._settled
            # The speech stage has heard a little of what was dropped, as look-ahead; the client must not.
            self._settled = self._cleared_to = self._given
            self.progress.dropped += dropped
            await confirm(Cleared(dropped_s=dropped / SAMPLE_RATE, media_s=self.progress.frames / FRAME_RATE))

    def playhead(self, seconds: float) -> None:
        """The client has played so far."""
        self._playhead_s = seconds
        self._playhead_moved.set()

    async def _generate(self) -> None:
        """Audio → blocks of speech features → latents, until the audio has ended."""
        anchor = self.clock()
        block, ended = 0, False
        while not ended:
            await self._wait_for_playhead()
            wanted = SAMPLES_PER_FRAME * block_frame_range(block)[1] + self.facts.look_ahead_samples
            need = max(wanted - self._given, SAMPLES_PER_FRAME)
            # A session that has fallen behind the clock does not catch up with silence.
            anchor = max(anchor, self.clock() - self._given / SAMPLE_RATE)
            due = None if self.slack_s is None else anchor + (self._given + need) / SAMPLE_RATE + self.slack_s
            taken = await self.audio.take(need, due)
            epoch, ended = self._epoch, len(taken.samples) < need
            self._given += len(taken.samples)
            begin = self.clock()
            for spoken in await self.stages.speech(self.session_id, taken.samples, ended):
                await self._make_latents(spoken, taken, epoch, self.clock() - begin)
                block += 1
        await self._blocks.put(None)

    async def _make_latents(self, spoken: SpokenBlock, taken: Taken, epoch: int, speech_s: float) -> None:
        begin = self.clock()
        latents = await self.stages.generate(self.session_id, spoken.features)
        block = _Block(
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
        """Latents → H.264 → fragments → client, in order; drops what a `clear` has overtaken."""
        while (block := await self._blocks.get()) is not None:
            # A block that was cleared is decoded all the same: the decoder's memory must follow the generator's.
            begin = self.clock()
            encoded = await self.stages.decode(self.session_id, block.latents, block.spoken.frames)
            decode_s = self.clock() - begin
            async with self._sending:
                if block.epoch == self._epoch:
                    await self._send(block, self._muxer.add_block(encoded, self._sound(block)), decode_s)
        if self.progress.blocks and (tail := self._muxer.close()):
            await self.send(None, tail)

    def _sound(self, block: _Block) -> np.ndarray:
        """The block's sound, without what was cleared before it."""
        sound = block.spoken.audio.copy()
        sound[: max(0, self._cleared_to - block.begin)] = 0
        return sound

    async def _send(self, block: _Block, media: bytes, decode_s: float) -> None:
        frames = block.spoken.frames
        event = BlockEvent(
            index=self.progress.blocks,
            frames=frames,
            start_s=self.progress.frames / FRAME_RATE,
            seconds=frames / FRAME_RATE,
            silence_s=block.silence / SAMPLE_RATE,
            latency_ms=_ms(self.clock() - block.complete_at),
            speech_ms=_ms(block.speech_s),
            generate_ms=_ms(block.generate_s),
            decode_ms=_ms(decode_s),
            bytes=len(media),
        )
        self.progress.blocks += 1
        self.progress.frames += frames
        self.progress.silence += block.silence
        self._settled = max(self._settled, min(self._given, block.begin + len(block.spoken.audio)))
        await self.send(event, media)

    async def _wait_for_playhead(self) -> None:
        """Waits while the stream is too far ahead of what the client has played."""
        while self._playhead_s is not None:
            ahead = self.progress.frames / FRAME_RATE - self._playhead_s
            if ahead <= self.limits.max_ahead_s:
                return
            self._playhead_moved.clear()
            await self._playhead_moved.wait()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)

"""Audio that waits to be spoken, and the silence that takes the place of audio that comes too late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from portrait.timing import SAMPLE_RATE
from serve_apps.errors import ApiError


@dataclass(frozen=True, kw_only=True)
class TakenAudio:
    """Samples for the next block."""

    samples: np.ndarray
    """float32 [S], as many as were requested, or fewer when the audio has ended."""
    silence: int
    """How many of the samples are silence that replaces late audio."""
    complete_at: float
    """When the last of the samples had arrived, on the clock."""


class AudioQueue:
    """Samples that wait to be spoken.

    Args:
        max_samples: most samples that may wait.
        clock: seconds; tests pass their own.
    """

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
            ApiError: more audio is waiting than the limits allow, or audio comes after the end.
        """
        if self.ended:
            raise ApiError("audio_after_end", "audio came after 'end'", 409)
        if self.samples + len(samples) > self._max_samples:
            limit = self._max_samples / SAMPLE_RATE
            message = f"more than {limit:g} s of audio are waiting to be spoken"
            raise ApiError("too_much_audio", f"{message}; send at the pace of speech, or use /v1/videos", 413)
        self._append(samples)

    def fill(self, samples: np.ndarray) -> None:
        """Adds a whole recording of any length, then ends."""
        self._append(samples)
        self.end()

    def end(self) -> None:
        """Ends the audio: no more will come."""
        self.ended = True
        self._changed.set()

    def clear(self) -> int:
        """Drops the samples that are waiting; returns their number."""
        dropped, self.samples = self.samples, 0
        self._chunks.clear()
        return dropped

    async def take(self, count: int, deadline: float | None) -> TakenAudio:
        """Waits for `count` samples or the end of the audio.

        Args:
            count: number of samples.
            deadline: when the wait ends and silence fills up what is missing (pacing.py); None waits forever.
        """
        while self.samples < count and not self.ended:
            self._changed.clear()
            remaining = None if deadline is None else deadline - self._clock()
            try:
                await asyncio.wait_for(self._changed.wait(), remaining)
            except TimeoutError:
                if self.samples >= count or self.ended:
                    break  # it came while the wait was being given up
                samples = self._cut(self.samples)
                silence = count - len(samples)
                return TakenAudio(
                    samples=np.pad(samples, (0, silence)), silence=silence, complete_at=self._clock()
                )
        return TakenAudio(
            samples=self._cut(min(count, self.samples)), silence=0, complete_at=self._complete_at
        )

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

"""How a live stream keeps time: when a block counts as late, and how far it may run ahead of the player.

A block is late when its audio has not arrived by its deadline. Silence then takes the place of the missing audio
(`AudioQueue.take`), so that the portrait stays alive in real time. A block that the stages finish late, for instance
because its session moved to another replica, is not skipped: it is sent when it is ready, and the deadlines of the
following blocks are counted from then on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from portrait.timing import FIRST_BLOCK_FRAMES, FRAME_RATE, FRAMES_PER_BLOCK, SAMPLE_RATE

JITTER_S = 0.2
"""How much later than another one a block may reach the player before the player runs dry."""
PLAY_AFTER_S = round((FRAMES_PER_BLOCK - FIRST_BLOCK_FRAMES) / FRAME_RATE + JITTER_S, 3)
"""How long after the first block's media a player should start. The first block plays for 13 frames, but the second
needs the sound of 16 more frames: even without jitter it comes 3 frames too late for a player that starts at once."""


class Pacing:
    """The clock of one stream.

    Args:
        slack_s: how late audio may come before silence takes its place; None waits for it.
        max_ahead_s: how far the stream may run ahead of what the client has played.
        clock: seconds; tests pass their own.
    """

    def __init__(
        self, *, slack_s: float | None, max_ahead_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slack_s = slack_s
        self._max_ahead_s = max_ahead_s
        self._clock = clock
        self._origin = -math.inf
        self._played_s: float | None = None
        self._played = asyncio.Event()

    def deadline(self, consumed: int, needed: int) -> float | None:
        """When the next block's audio is late.

        Args:
            consumed: samples that the stream has taken so far.
            needed: samples that the next block needs.

        Returns:
            A time on the clock, or None when the stream waits for its audio however long that takes.
        """
        # A stream that has fallen behind the clock must not catch up with silence: its origin moves instead.
        self._origin = max(self._origin, self._clock() - consumed / SAMPLE_RATE)
        if self._slack_s is None:
            return None
        return self._origin + (consumed + needed) / SAMPLE_RATE + self._slack_s

    def played(self, seconds: float) -> None:
        """Records how much the client has played.

        A player that skipped ahead, such as one that returns to the live edge after a stall, needs the following blocks
        earlier than the audio clock says; silence must then replace late audio by the player's clock.
        """
        self._played_s = seconds
        self._origin = min(self._origin, self._clock() - seconds)
        self._played.set()

    async def wait_for_player(self, sent_s: Callable[[], float]) -> None:
        """Waits while the stream is too far ahead of the player; returns at once if the client reports no playhead.

        Args:
            sent_s: returns the length of the media that was sent.
        """
        while self._played_s is not None:
            if sent_s() - self._played_s <= self._max_ahead_s:
                return
            self._played.clear()
            await self._played.wait()

import asyncio

import pytest

from serve_apps.client import stalls_of
from serve_apps.pacing import PLAY_AFTER_S, Pacing


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_audio_is_due_at_the_pace_of_speech_plus_the_slack():
    clock = Clock()
    pacing = Pacing(slack_s=0.5, max_ahead_s=30, clock=clock)
    assert pacing.deadline(0, 8000) == pytest.approx(100 + 0.5 + 0.5)
    clock.now = 100.3  # the first block came early: the second is due one second after the start, not later
    assert pacing.deadline(8000, 8000) == pytest.approx(100 + 1.0 + 0.5)


def test_a_stream_that_fell_behind_the_clock_is_not_hurried():
    clock = Clock()
    pacing = Pacing(slack_s=0.5, max_ahead_s=30, clock=clock)
    pacing.deadline(0, 8000)
    clock.now = 110.0  # the block took ten seconds
    assert pacing.deadline(8000, 8000) == pytest.approx(110 + 0.5 + 0.5)


def test_without_slack_the_stream_waits_for_its_audio():
    assert Pacing(slack_s=None, max_ahead_s=30).deadline(0, 8000) is None


async def test_a_stream_waits_for_a_player_that_is_too_far_behind():
    pacing, sent = Pacing(slack_s=None, max_ahead_s=2.0), 5.0
    await asyncio.wait_for(pacing.wait_for_player(lambda: sent), 1)  # no playhead was reported
    pacing.played(1.0)
    waiting = asyncio.create_task(pacing.wait_for_player(lambda: sent))
    await asyncio.sleep(0)
    pacing.played(2.9)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    pacing.played(3.0)
    await asyncio.wait_for(waiting, 1)


def test_a_player_that_skipped_ahead_moves_the_deadline_with_it():
    clock = Clock()
    pacing = Pacing(slack_s=0.5, max_ahead_s=30, clock=clock)
    pacing.deadline(0, 8000)
    clock.now = 102.0
    pacing.played(1.5)  # an ordinary player is a little behind the audio: nothing changes
    assert pacing.deadline(6 * 16000, 8000) == pytest.approx(100 + 6.5 + 0.5)
    pacing.played(5.5)  # 6 s of audio came at once and were skipped: the player runs dry in half a second
    assert pacing.deadline(6 * 16000, 8000) == pytest.approx(102 + 0.5 + 0.5 + 0.5)


def test_a_player_that_waits_as_told_does_not_run_dry_on_a_stream_in_real_time():
    # Block n is complete when its sound has come: the first after 13 frames, each further one after 16 more.
    arrivals, seconds = [0.52 + 0.64 * n for n in range(5)], [0.52] + 4 * [0.64]
    assert stalls_of(arrivals, seconds)[0] == 1
    late = [arrival + 0.19 * (n % 2) for n, arrival in enumerate(arrivals)]
    assert stalls_of(late, seconds, PLAY_AFTER_S) == (0, 0.0)

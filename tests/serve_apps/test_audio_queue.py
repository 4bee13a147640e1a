import asyncio

import numpy as np
import pytest

from serve_apps.audio_queue import AudioQueue
from serve_apps.errors import ApiError


def ramp(samples: int) -> np.ndarray:
    return np.arange(1, samples + 1, dtype=np.float32)


def test_more_audio_than_the_limit_is_refused():
    queue = AudioQueue(1000)
    queue.push(ramp(900))
    with pytest.raises(ApiError, match="waiting to be spoken"):
        queue.push(ramp(200))
    assert queue.samples == 900
    assert queue.clear() == 900
    queue.end()
    with pytest.raises(ApiError, match="after 'end'"):
        queue.push(ramp(1))


async def test_samples_are_taken_in_order_whatever_pieces_they_came_in():
    queue = AudioQueue(1000)
    for piece in np.split(ramp(100), [7, 50]):
        queue.push(piece)
    first, second = await queue.take(30, None), await queue.take(70, None)
    np.testing.assert_array_equal(np.concatenate((first.samples, second.samples)), ramp(100))
    assert first.silence == second.silence == queue.samples == 0


async def test_silence_follows_the_audio_that_came_before_the_deadline():
    now = 3.0
    queue = AudioQueue(1000, clock=lambda: now)
    queue.push(ramp(40))
    taken = await queue.take(100, deadline=3.01)
    np.testing.assert_array_equal(taken.samples, np.pad(ramp(40), (0, 60)))
    assert (taken.silence, taken.complete_at) == (60, 3.0)


async def test_the_end_wakes_the_wait_and_leaves_fewer_samples():
    queue = AudioQueue(1000)
    taking = asyncio.create_task(queue.take(100, None))
    await asyncio.sleep(0)
    queue.fill(ramp(40))
    taken = await taking
    assert (len(taken.samples), taken.silence) == (40, 0)


async def test_audio_that_comes_while_the_wait_is_given_up_is_taken_in_time():
    queue = AudioQueue(1000, clock=lambda: 3.0)
    asyncio.get_running_loop().call_soon(queue.push, ramp(150))
    taken = await queue.take(100, deadline=2.0)
    np.testing.assert_array_equal(taken.samples, ramp(150)[:100])
    assert (taken.silence, queue.samples) == (0, 50)

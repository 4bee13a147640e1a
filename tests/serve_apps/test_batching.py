import asyncio
import threading

import pytest

from serve_apps.batching import BatchingThread


async def test_calls_that_wait_while_the_thread_works_are_answered_together():
    batches, gate = [], threading.Event()

    def answer(requests):
        gate.wait()
        batches.append(list(requests))
        return [2 * request for request in requests]

    thread = BatchingThread(answer, max_batch=3, name="test")
    tasks = [asyncio.create_task(thread.submit(number)) for number in range(6)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10]
    assert sorted(number for batch in batches for number in batch) == list(range(6))
    assert max(map(len, batches)) == 3


async def test_an_error_reaches_every_caller_of_its_batch_and_the_thread_goes_on():
    def answer(requests):
        if "bad" in requests:
            raise ValueError("no")
        return requests

    thread = BatchingThread(answer, max_batch=8, name="test")
    with pytest.raises(ValueError, match="no"):
        await thread.submit("bad")
    assert await thread.submit("good") == "good"


async def test_a_cancelled_call_leaves_the_others_of_its_batch_alone():
    gate = threading.Event()

    def answer(requests):
        gate.wait()
        return requests

    thread = BatchingThread(answer, max_batch=1, name="test")
    first, second, third = (asyncio.create_task(thread.submit(number)) for number in range(3))
    await asyncio.sleep(0)
    second.cancel()
    gate.set()
    assert (await first, await third) == (0, 2)


async def test_the_event_loop_stays_free_while_the_model_works():
    gate = threading.Event()
    thread = BatchingThread(lambda requests: [gate.wait(10) for _ in requests], max_batch=1, name="test")
    working = asyncio.create_task(thread.submit(1))
    # The gate is opened by the loop itself: were the loop blocked, the wait would end in a time-out and give False.
    await asyncio.sleep(0.05)
    gate.set()
    assert await working is True

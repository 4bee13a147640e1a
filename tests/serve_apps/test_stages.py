"""The calls to the stages: a session that a replica no longer knows goes on from its state, errors keep their words."""

import asyncio

import numpy as np
import pytest

from serve_apps.protocol import ApiError, Start
from serve_apps.stages import UploadedImage, in_own_context


async def run_session(stages, portrait_id, samples, *, lose=()):
    """Latents and frames' bytes of each block; after block 1 the stages named in `lose` forget the session."""
    await stages.facts()
    await stages.open("s", Start(portrait_id=portrait_id), seed=4, owner="")
    results = []
    for index, piece in enumerate(np.split(samples, [13 * 640 + 1280, 29 * 640 + 1280])):
        for block in await stages.speech("s", piece, end=index == 2):
            latents = await stages.generate("s", block.features)
            results.append((latents, await stages.decode("s", latents, block.frames), block.audio))
        if index == 1:
            for stage in lose:
                await stages._call(stage, "close", "s", session_id="s")
    await stages.close("s")
    return results


@pytest.fixture
async def registered(local_stages, talk):
    stages = local_stages()
    images = [UploadedImage(name="head.png", content=talk.picture.read_bytes())]
    return (await stages.register(images, "", "yes", "")).portrait_id


async def test_a_session_that_is_lost_everywhere_goes_on_as_if_nothing_had_been(
    local_stages, registered, talk
):
    samples = talk.samples[:30000]
    expected = await run_session(local_stages(), registered, samples)
    moved = await run_session(local_stages(), registered, samples, lose=("encoder", "generator", "decoder"))
    assert len(moved) == len(expected) == 4
    for (latents, video, sound), (latents_0, video_0, sound_0) in zip(moved, expected, strict=True):
        np.testing.assert_allclose(latents, latents_0, atol=1e-4 * np.abs(latents_0).max())
        np.testing.assert_array_equal(sound, sound_0)
        assert video.parameter_sets == video_0.parameter_sets
        assert video.num_frames == video_0.num_frames
        # Replay is exact to rounding, which may flip a bit of a picture.
        assert video.num_bytes == pytest.approx(video_0.num_bytes, rel=0.01)


async def test_a_session_whose_portrait_was_deleted_meanwhile_ends_in_words(local_stages, registered, talk):
    stages = local_stages()
    await stages.open("t", Start(portrait_id=registered), seed=4, owner="")
    (block,) = await stages.speech("t", talk.samples[: 13 * 640 + 1280], end=False)
    await stages.generate("t", block.features)
    assert await stages.delete_portrait(registered, "")
    await stages._call("generator", "close", "t", session_id="t")
    with pytest.raises(ApiError, match="no portrait"):
        await stages.generate("t", block.features)
    await stages.close("t")


async def test_a_call_in_its_own_context_is_cancelled_with_its_caller():
    stopped = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    caller = asyncio.create_task(in_own_context(work()))
    await asyncio.sleep(0.01)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(stopped.wait(), 5)

"""A session that a replica no longer knows is continued from its state; what cannot be recovered keeps its message."""

import numpy as np
import pytest

from serve_apps.errors import ApiError
from serve_apps.messages import SessionSettings, UploadedImage
from serve_apps.recovery import _RETRY_AFTER_S, RecoverableStages


async def run_session(handles, portrait_id, samples, *, lose=()):
    """Latents, H.264 and sound of each block; after block 1 the deployments in `lose` forget the session."""
    stages = RecoverableStages(handles)
    await stages.open("s", SessionSettings(portrait_id=portrait_id, owner="", seed=4))
    results = []
    for index, piece in enumerate(np.split(samples, [13 * 640 + 1280, 29 * 640 + 1280])):
        for block in await stages.speech("s", piece, end=index == 2):
            latents = await stages.generate("s", block.features)
            results.append((latents, await stages.decode("s", latents, block.frames), block.audio))
        if index == 1:
            for handle in lose:
                await handle.close("s")
    await stages.close("s")
    return results


@pytest.fixture
async def registered(local_handles, talk):
    images = [UploadedImage(name="head.png", content=talk.picture.read_bytes())]
    return (await local_handles.encoder.register(images, "", "yes", "")).portrait_id


async def test_a_session_that_is_lost_everywhere_continues_unchanged(local_handles, registered, talk):
    samples = talk.samples[:30000]
    expected = await run_session(local_handles, registered, samples)
    lose = (local_handles.encoder, local_handles.generator, local_handles.decoder)
    moved = await run_session(local_handles, registered, samples, lose=lose)
    assert len(moved) == len(expected) == 4
    for (latents, video, sound), (latents_0, video_0, sound_0) in zip(moved, expected, strict=True):
        np.testing.assert_allclose(latents, latents_0, atol=1e-4 * np.abs(latents_0).max())
        np.testing.assert_array_equal(sound, sound_0)
        assert video.parameter_sets == video_0.parameter_sets
        assert video.num_frames == video_0.num_frames
        # Replay is exact to rounding, which may flip a bit of a picture.
        assert video.num_bytes == pytest.approx(video_0.num_bytes, rel=0.01)


async def test_a_session_whose_portrait_was_deleted_meanwhile_ends_with_that_reason(
    local_handles, registered, talk
):
    stages = RecoverableStages(local_handles)
    await stages.open("t", SessionSettings(portrait_id=registered, owner="", seed=4))
    (block,) = await stages.speech("t", talk.samples[: 13 * 640 + 1280], end=False)
    await stages.generate("t", block.features)
    assert await local_handles.encoder.delete_portrait(registered, "")
    await local_handles.generator.close("t")
    with pytest.raises(ApiError, match="no portrait"):
        await stages.generate("t", block.features)
    await stages.close("t")


async def test_a_session_is_reopened_a_few_times_and_then_reported_as_lost(
    local_handles, registered, talk, monkeypatch
):
    monkeypatch.setattr("serve_apps.recovery._RETRY_AFTER_S", (0.0,) * len(_RETRY_AFTER_S))
    stages = RecoverableStages(local_handles)
    await stages.open("u", SessionSettings(portrait_id=registered, owner="", seed=4))
    opened = []

    async def lost(session_id, features):
        raise ApiError("session_lost", "gone", 503)

    async def reopened(session_id, settings, state):
        opened.append((session_id, settings.seed, state))

    monkeypatch.setattr(local_handles.generator, "generate", lost)
    monkeypatch.setattr(local_handles.generator, "open", reopened)
    with pytest.raises(ApiError, match="gone"):
        await stages.generate("u", np.zeros((13, 1), np.float32))
    assert opened == [("u", 4, None)] * len(_RETRY_AFTER_S)
    monkeypatch.undo()
    await stages.close("u")

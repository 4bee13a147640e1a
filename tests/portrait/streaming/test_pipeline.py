"""The three stages in a row: as many frames as the speech has, the speech itself, and nothing kept afterwards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from portrait.generator import Generator
from portrait.streaming import PortraitPipeline


@pytest.fixture
def pipeline(encoder, generator, vae, sampling):
    return PortraitPipeline(encoder, generator, vae, sampling)


def speech(samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def open_sessions(pipeline):
    return [*pipeline.speech.sessions, *pipeline.generator.sessions, *pipeline.decoder.sessions]


def test_video_is_as_long_as_the_speech(pipeline, portraits):
    audio = speech(640 * 30 + 5)
    blocks = list(pipeline.stream(portraits[0], audio))
    assert [len(block.frames) for block in blocks] == [13, 16, 2]
    sound = np.concatenate([block.audio for block in blocks])
    np.testing.assert_array_equal(sound[: len(audio)], audio)
    assert len(sound) == 640 * 31
    assert blocks[0].frames.shape[1:] == (128, 128, 3)
    assert blocks[0].frames.dtype == np.uint8
    assert open_sessions(pipeline) == []


def test_pieces_as_they_come_give_the_same_video(pipeline, portraits):
    audio = speech(640 * 14)
    whole = list(pipeline.stream(portraits[1], audio, seed=4))
    pieces = list(
        pipeline.stream(portraits[1], (audio[at : at + 320] for at in range(0, len(audio), 320)), seed=4)
    )
    for block, expected in zip(pieces, whole, strict=True):
        np.testing.assert_array_equal(block.frames, expected.frames)


def test_the_first_block_comes_before_the_speech_is_over(pipeline, portraits):
    heard = 0

    def microphone():
        nonlocal heard
        for _ in range(40):
            heard += 640
            yield speech(640)

    first = next(iter(pipeline.stream(portraits[0], microphone())))
    assert first.index == 0
    assert heard == 640 * 15  # 13 frames and 80 ms of look-ahead


def test_nothing_stays_behind_when_a_viewer_leaves(pipeline, portraits):
    stream = pipeline.stream(portraits[0], speech(640 * 40))
    next(stream)
    stream.close()
    assert open_sessions(pipeline) == []


def test_no_speech_is_refused(pipeline, portraits):
    with pytest.raises(ValueError, match="empty"):
        list(pipeline.stream(portraits[0], speech(0)))


def test_speech_features_of_another_size_are_refused(encoder, generator, vae, sampling):
    other = Generator(replace(generator.config, speech_dim=80))
    with pytest.raises(ValueError, match="gives 160 features per frame, the generator expects 80"):
        PortraitPipeline(encoder, other, vae, sampling)

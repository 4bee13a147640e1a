"""Audio in any pieces gives the blocks that the whole gives, each with its sound, and a session can move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portrait.speech import LogMelEncoder
from portrait.streaming import SpeechRequest, SpeechStage, StageFullError, UnknownSessionError
from portrait.timing import block_frame_range

NOTHING = np.zeros(0, np.float32)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def push(stage, samples, *, end=False, name="a"):
    return stage.step([SpeechRequest(session_id=name, samples=samples, end=end)])[0]


def opened(encoder):
    stage = SpeechStage(encoder)
    stage.open("a")
    return stage


@settings(deadline=None, max_examples=25)
@given(length=st.integers(1, 35_000), cuts=st.lists(st.integers(1, 12_000), min_size=1, max_size=20))
def test_blocks_of_any_chunking_are_those_of_the_whole(length, cuts):
    encoder, audio, at, blocks = LogMelEncoder(), noise(length), 0, []
    stage = opened(encoder)
    for cut in cuts:
        blocks += push(stage, audio[at : at + cut])
        at += cut
    blocks += push(stage, audio[at:], end=True)

    frames = -(-length // 640)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    assert sum(block.num_frames for block in blocks) == frames
    padded = np.zeros(640 * frames, np.float32)
    padded[:length] = audio
    np.testing.assert_array_equal(np.concatenate([block.audio for block in blocks]), padded)
    total = block_frame_range(len(blocks) - 1)[1]
    silence = np.concatenate((audio, np.zeros(640 * total + 2_000 - length, np.float32)))
    expected = encoder.features(silence)[:total]
    np.testing.assert_allclose(np.concatenate([block.features for block in blocks]), expected, atol=1e-6)
    assert [len(block.features) for block in blocks] == [13] + [16] * (len(blocks) - 1)


def test_a_block_waits_for_its_look_ahead_and_no_longer(encoder):
    stage = opened(encoder)
    needed = 640 * 13 + encoder.look_ahead_samples
    assert push(stage, noise(needed - 1)) == []
    assert len(push(stage, noise(1))) == 1


def test_an_end_on_a_blocks_edge_adds_no_block(encoder):
    stage = opened(encoder)
    assert [block.num_frames for block in push(stage, noise(640 * 29), end=True)] == [13, 16]
    assert push(opened(encoder), NOTHING, end=True) == []


@pytest.mark.parametrize("levelled", [False, True])
def test_export_and_import_anywhere_change_nothing(levelled):
    encoder = LogMelEncoder(levelled=levelled)
    # Syllables at -38 dB, which a leveller raises.
    audio = 0.1 * noise(40_000) * np.sin(np.arange(40_000, dtype=np.float32) / 1_000) ** 2
    stage = opened(encoder)
    whole = push(opened(encoder), audio, end=True)
    blocks = []
    for at in range(0, 40_000, 3_700):
        blocks += push(stage, audio[at : at + 3_700], end=at + 3_700 >= 40_000)
        state = stage.export("a")
        assert len(state) < 100_000
        stage = SpeechStage(encoder)
        stage.open("a", state)
    assert len(blocks) == len(whole)
    for block, expected in zip(blocks, whole, strict=True):
        np.testing.assert_allclose(block.features, expected.features, atol=1e-6)
        np.testing.assert_array_equal(block.audio, expected.audio)


def test_a_state_of_another_kind_of_encoder_is_refused(encoder):
    state = opened(encoder).export("a")
    with pytest.raises(ValueError, match="another speech encoder"):
        SpeechStage(LogMelEncoder(levelled=True)).open("a", state)


def test_state_does_not_grow(encoder):
    stage, sizes = opened(encoder), []
    for _ in range(40):
        push(stage, noise(16 * 640))
        sizes.append(len(stage.export("a")))
    assert len(set(sizes[5:])) == 1


def test_sessions_do_not_mix(encoder):
    stage = SpeechStage(encoder)
    stage.open("a")
    stage.open("b")
    audio = {"a": noise(30_000, 1), "b": noise(30_000, 2)}
    both = stage.step([SpeechRequest(session_id=n, samples=audio[n], end=True) for n in ("a", "b")])
    for name, blocks in zip(("a", "b"), both, strict=True):
        alone = push(opened(encoder), audio[name], end=True)
        for block, expected in zip(blocks, alone, strict=True):
            np.testing.assert_array_equal(block.features, expected.features)


def test_wrong_use_is_told(encoder):
    stage = SpeechStage(encoder, max_sessions=1)
    stage.open("a")
    with pytest.raises(ValueError, match="open already"):
        stage.open("a")
    with pytest.raises(StageFullError, match="all 1 sessions"):
        stage.open("b")
    with pytest.raises(UnknownSessionError, match="no session 'b'"):
        push(stage, NOTHING, name="b")
    with pytest.raises(ValueError, match="NaN"):
        push(stage, np.full(5, np.nan, np.float32))
    stage.close("a")
    stage.close("a")
    with pytest.raises(ValueError, match="session state"):
        stage.open("a", b"no state")

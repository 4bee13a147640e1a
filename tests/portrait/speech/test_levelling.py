"""Quiet speech is raised to an ordinary level; ordinary speech and noise are not touched, however audio is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portrait.speech import LogMelEncoder, SpeechConfig, build_speech_encoder
from portrait.speech.levelling import (
    LOUDEST_NOISE_DB,
    QUIETEST_SPEECH_DB,
    Leveller,
    LevellerState,
    level_db,
    loudest_frame_db,
)
from portrait.synthetic import speech


def scaled(audio: np.ndarray, gain_db: float) -> np.ndarray:
    return (audio * 10 ** (gain_db / 20)).astype(np.float32)


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(16_000 * seconds))
    return scaled(samples, level)


def levelled(audio: np.ndarray) -> np.ndarray:
    leveller = Leveller(LevellerState())
    return np.concatenate((leveller.push(audio), leveller.finish()))[: len(audio)]


def gains(audio: np.ndarray) -> np.ndarray:
    """Gain of every frame in dB."""
    leveller, found = Leveller(LevellerState()), []
    for at in range(0, len(audio), 640):
        leveller.push(audio[at : at + 640])
        found.append(leveller.state.gain_db)
    return np.array(found)


@pytest.mark.parametrize("seed", range(4))
def test_speech_that_models_were_trained_on_is_hardly_touched(seed: int) -> None:
    found = gains(speech(6, seed)[0])
    assert np.median(found) == 0
    assert (found < 3).mean() > 0.9


@pytest.mark.parametrize("quieter", [20, 28, 36])
def test_quiet_speech_is_brought_to_the_level_of_ordinary_speech(quieter: float) -> None:
    audio = speech(6, 1)[0]
    loud, raised = levelled(audio), levelled(scaled(audio, -quieter))
    after = slice(16_000, None)
    # Raised to the lower end of ordinary levels: the synthetic speech lies 6 dB above that.
    assert level_db(raised[after]) == pytest.approx(level_db(loud[after]) - 6, abs=3)
    steady = gains(scaled(audio, -quieter))[50:]
    assert steady.max() - steady.min() < 9


def test_the_mouths_features_of_quiet_speech_are_those_of_ordinary_speech() -> None:
    audio = scaled(speech(6, 2)[0], -6)
    plain, level = LogMelEncoder(), LogMelEncoder(levelled=True)
    expected = plain.features(audio)[25:]
    before = np.abs(plain.features(scaled(audio, -24))[25:] - expected).mean()
    after = np.abs(level.features(scaled(audio, -24))[25:] - expected).mean()
    assert after < 0.35 * before


@pytest.mark.parametrize("level", [-90, -60, -50])
def test_noise_alone_is_not_touched(level: float) -> None:
    audio = noise(6, level)
    np.testing.assert_array_equal(levelled(audio), audio)


def test_noise_after_digital_silence_is_not_touched() -> None:
    audio = np.concatenate((np.zeros(16_000, np.float32), noise(4, -50)))
    np.testing.assert_array_equal(levelled(audio), audio)


def test_noise_behind_quiet_speech_stays_an_ordinary_recordings() -> None:
    audio = scaled(speech(4, 1)[0], -25)
    audio = np.concatenate((audio, np.zeros(6 * 16_000, np.float32)))
    audio += noise(10, -60)
    raised = levelled(audio)
    assert level_db(raised[-5 * 16_000 :]) < LOUDEST_NOISE_DB + 1
    assert level_db(raised[16_000 : 4 * 16_000]) > level_db(audio[16_000 : 4 * 16_000]) + 10


def test_a_louder_speaker_is_not_raised_for_long() -> None:
    loud = speech(4, 3)[0]
    audio = np.concatenate((scaled(speech(4, 1)[0], -30), loud))
    found = gains(audio)
    assert found[60:100].min() > 10
    assert found[115:].max() < 1, "0.6 s after the louder one begins"


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(400, 40_000),
    cuts=st.lists(st.integers(0, 40_000), max_size=12),
    look_ahead=st.sampled_from([0, 80]),
)
def test_a_stream_gives_the_same_features_as_the_whole(length: int, cuts: list[int], look_ahead: int) -> None:
    encoder = LogMelEncoder(levelled=True, look_ahead_ms=look_ahead)
    audio = scaled(speech(3, 1)[0][:length], -25)
    stream = encoder.stream()
    bounds = [0, *sorted(min(cut, length) for cut in cuts), length]
    parts = []
    for start, end in pairwise(bounds):
        parts.append(stream.push(audio[start:end]))
        assert stream.received == end
    parts.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(parts), encoder.features(audio), atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=12))
def test_levelled_samples_are_the_same_to_the_bit_however_audio_is_cut(cuts: list[int]) -> None:
    audio = scaled(speech(2.5, 1)[0], -25)
    leveller = Leveller(LevellerState())
    bounds = [0, *sorted(cuts), len(audio)]
    pieces = [leveller.push(audio[start:end]) for start, end in pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate((*pieces, leveller.finish()))[: len(audio)], levelled(audio))


def test_a_frame_hears_its_look_ahead_and_nothing_later() -> None:
    encoder = LogMelEncoder(levelled=True)
    audio, frame = scaled(speech(3, 1)[0], -25), 30
    end = 640 * (frame + 1) + encoder.look_ahead_samples
    later = audio.copy()
    later[end:] = noise(len(audio) / 16_000, 0)[end:]
    np.testing.assert_array_equal(encoder.features(later)[: frame + 1], encoder.features(audio)[: frame + 1])
    stream = encoder.stream()
    stream.push(audio[: end - 1])
    assert stream.state.next_frame == frame
    assert len(stream.push(audio[end - 1 : end])) == 1


def test_a_state_belongs_to_its_kind_of_encoder() -> None:
    plain, level = LogMelEncoder(), LogMelEncoder(levelled=True)
    with pytest.raises(ValueError, match="another speech encoder"):
        level.stream(plain.stream().state)
    with pytest.raises(ValueError, match="another speech encoder"):
        plain.stream(level.stream().state)
    with pytest.raises(ValueError, match="expected 3 to 53 values"):
        LevellerState.from_array(np.zeros(2), np.zeros(0, np.float32))


def test_the_id_tells_levelled_features_apart() -> None:
    assert build_speech_encoder(SpeechConfig()).id == LogMelEncoder(levelled=True).id
    assert LogMelEncoder(levelled=True).id == f"{LogMelEncoder().id}/levelled"


def test_the_loudest_frame_of_a_recording() -> None:
    audio = np.concatenate((noise(1, -70), noise(0.04, -30), noise(1, -70)))
    assert loudest_frame_db(audio) == pytest.approx(-30, abs=0.5)
    assert loudest_frame_db(np.zeros(100, np.float32)) == -120
    assert QUIETEST_SPEECH_DB == -48

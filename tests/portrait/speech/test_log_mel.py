"""Log-mel features against librosa, streaming against offline, and what a frame may hear."""

from __future__ import annotations

from itertools import pairwise

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portrait.speech import LogMelEncoder
from portrait.speech.log_mel import mel_filters


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("bins", [20, 40, 80])
def test_filters_equal_librosas(bins):
    expected = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=bins)
    np.testing.assert_allclose(mel_filters(bins), expected, atol=1e-8)


def test_spectra_equal_librosas_without_look_ahead():
    audio = noise(16_000)
    features = LogMelEncoder(mel_bins=40, subframes=4, look_ahead_ms=0).features(audio)
    # librosa centres the 400-sample window in its 512 points, and frame i's last window ends at 640·(i + 1).
    shifted = np.concatenate((np.zeros(240 + 56), audio.astype(np.float64), np.zeros(56)))
    power = librosa.feature.melspectrogram(
        y=shifted, sr=16_000, n_fft=512, hop_length=160, win_length=400, center=False, n_mels=40
    )
    expected = ((np.log(power + 1e-5) + 6) / 4).T.reshape(-1, 160)
    np.testing.assert_allclose(features, expected[: len(features)], atol=1e-5)
    assert features.shape == (25, 160)


@settings(deadline=None, max_examples=40)
@given(
    look_ahead=st.sampled_from([0, 80, 160]),
    length=st.integers(400, 9_000),
    cuts=st.lists(st.integers(0, 9_000), max_size=12),
)
def test_a_stream_gives_the_same_features_as_the_whole(look_ahead, length, cuts):
    encoder = LogMelEncoder(look_ahead_ms=look_ahead)
    audio = noise(length)
    stream = encoder.stream()
    bounds = [0, *sorted(min(cut, length) for cut in cuts), length]
    parts = [stream.push(audio[a:b]) for a, b in pairwise(bounds)]
    parts.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(parts), encoder.features(audio), atol=1e-6)


@pytest.mark.parametrize("look_ahead", [0, 80, 160])
def test_a_frame_hears_its_look_ahead_and_nothing_later(look_ahead):
    encoder = LogMelEncoder(look_ahead_ms=look_ahead)
    audio, frame = noise(640 * 20), 6
    end = 640 * (frame + 1) + encoder.look_ahead_samples
    before = encoder.features(audio)
    later = audio.copy()
    later[end:] = noise(len(audio) - end, seed=1)
    np.testing.assert_array_equal(encoder.features(later)[: frame + 1], before[: frame + 1])
    within = audio.copy()
    within[end - 100 : end] += 0.5
    assert np.abs(encoder.features(within)[frame] - before[frame]).max() > 0.1


@pytest.mark.parametrize("look_ahead", [0, 80])
def test_a_group_of_four_frames_hears_its_own_time(look_ahead):
    encoder = LogMelEncoder(look_ahead_ms=look_ahead)
    silence = encoder.features(np.zeros(640 * 20, np.float32))
    heard = []
    for at in range(5 * 640, 9 * 640, 40):
        click = np.zeros(640 * 20, np.float32)
        click[at] = 0.5
        heard.append(np.abs(encoder.features(click)[5:9] - silence[5:9]).max() > 0.05)
    # The ends of a Hann window hear next to nothing, and spectra 30 ms apart leave gaps of 5 ms in the first frame.
    assert np.mean(heard) > 0.9
    runs = "".join("1" if h else "0" for h in heard).split("1")
    assert max(len(run) for run in runs) * 40 <= 160


def test_frames_become_ready_as_soon_as_their_look_ahead_is_there():
    stream = LogMelEncoder(look_ahead_ms=80).stream()
    assert len(stream.push(noise(640 + 1_280 - 1))) == 0
    assert len(stream.push(noise(1))) == 1
    assert len(stream.push(noise(640 * 3))) == 3


def test_memory_of_a_stream_stays_small():
    stream = LogMelEncoder(look_ahead_ms=160).stream()
    for _ in range(200):
        stream.push(noise(5_000))
    assert len(stream.state.samples) < 5_000


def test_silence_follows_the_end():
    encoder = LogMelEncoder()
    audio = noise(1_000)
    padded = np.concatenate((audio, np.zeros(9_000, np.float32)))
    np.testing.assert_array_equal(encoder.features(audio, 10), encoder.features(padded)[:10])
    assert encoder.features(audio).shape == (2, 160)
    assert encoder.features(noise(9_000), 3).shape == (3, 160)


def test_the_id_tells_parameters_apart():
    assert LogMelEncoder(look_ahead_ms=80).id != LogMelEncoder(look_ahead_ms=0).id
    assert LogMelEncoder().dim == 160


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "at least 400 samples"),
        (np.zeros(399, np.float32), "at least 400 samples"),
        (np.full(2_000, np.nan, np.float32), "NaN"),
        (np.zeros((2, 2_000), np.float32), "mono"),
        (np.zeros(2_000, np.int16), "floating point"),
    ],
)
def test_bad_audio_is_refused(audio, message):
    with pytest.raises(ValueError, match=message):
        LogMelEncoder().features(audio)

"""Synthetic speech: deterministic, normalised, and the mouth can be inferred from it (about 4 s)."""

import itertools

import numpy as np
import pytest
from scipy.signal import find_peaks, lfilter

from portrait.synthetic.speech import VOWELS, Voice, _formants, speech, synthesize
from portrait.timing import SAMPLES_PER_FRAME


def loudness(audio: np.ndarray) -> np.ndarray:
    return np.sqrt((audio.reshape(-1, SAMPLES_PER_FRAME) ** 2).mean(1))


def test_audio_and_tracks_have_the_time_grid_and_range() -> None:
    spoken = synthesize(4.0, 3, Voice())
    assert spoken.audio.shape == (64000,)
    assert spoken.audio.dtype == np.float32
    assert spoken.opening.shape == spoken.rounding.shape == spoken.energy.shape == (100,)
    assert np.abs(spoken.audio).max() == pytest.approx(0.8, abs=1e-3)
    assert spoken.opening.min() >= 0
    assert spoken.opening.max() <= 1
    assert spoken.opening.max() > 0.6, "no wide vowel in four seconds"


def test_depends_on_the_seed_alone() -> None:
    audio, opening = speech(2.0, 5)
    np.random.seed(99)
    again, opening_again = speech(2.0, 5)
    other, _ = speech(2.0, 6)
    assert np.array_equal(audio, again)
    assert np.array_equal(opening, opening_again)
    assert not np.allclose(audio, other)


def test_mouth_rests_in_pauses() -> None:
    spoken = synthesize(12.0, 1, Voice())
    quiet = loudness(spoken.audio) < 0.01
    # two frames from any sound on either side: beyond the reach of coarticulation
    resting = np.convolve(~quiet, np.ones(7), mode="same") == 0
    assert resting.sum() > 10
    assert spoken.opening[resting].max() < 0.02


def test_opening_is_predictable_from_sound_with_80_ms_of_look_ahead() -> None:
    def features(audio: np.ndarray) -> np.ndarray:
        """Log energies in bands of each frame and of those from -3 to +2 around it."""
        pieces = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (0, 640)), 1280)[::SAMPLES_PER_FRAME][
            : len(audio) // 640
        ]
        power = np.abs(np.fft.rfft(pieces * np.hanning(1280), axis=1)) ** 2
        edges = np.geomspace(4, 600, 22).astype(int)
        bands = np.log(np.stack([power[:, a : b + 1].sum(1) for a, b in itertools.pairwise(edges)], 1) + 1e-4)
        padded = np.pad(bands, ((3, 2), (0, 0)), mode="edge")
        return np.hstack([padded[k : k + len(bands)] for k in range(6)] + [np.ones((len(bands), 1))])

    voice = Voice(pitch_hz=120)
    known, unknown = synthesize(120, 0, voice), synthesize(20, 1, voice)
    x = features(known.audio)
    weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ known.opening)
    guess = features(unknown.audio) @ weights
    assert np.corrcoef(guess, unknown.opening)[0, 1] > 0.8, (
        "a linear reader of the spectrum should follow the mouth"
    )


def test_resonators_stand_where_the_vowels_formants_are() -> None:
    impulse = np.zeros(16000)
    impulse[0] = 1
    for formants, _, _ in VOWELS.values():
        spectrum = np.abs(np.fft.rfft(_formants(impulse, formants, 1.0)))
        peaks, _ = find_peaks(np.log(spectrum))
        for frequency in formants:
            assert np.abs(peaks - frequency).min() < 40


def test_pitch_is_the_voices() -> None:
    for pitch in (110.0, 210.0):
        audio = synthesize(8.0, 2, Voice(pitch_hz=pitch)).audio
        residual = np.asarray(lfilter([1, -0.9], [1], audio))
        periods = []
        for piece in residual[: len(residual) // 1024 * 1024].reshape(-1, 1024):
            if np.sqrt((piece**2).mean()) > 0.02:
                r = np.correlate(piece, piece, "full")[1023:]
                periods.append(60 + int(np.argmax(r[60:220])))
        assert np.median(16000 / np.array(periods)) == pytest.approx(pitch, rel=0.2)


def test_refuses_no_time_at_all() -> None:
    with pytest.raises(ValueError, match="seconds"):
        synthesize(0.0, 0, Voice())

"""Speech-like sound by the source-filter model (Fant 1960): glottal pulses and noise through formant resonators.

Random syllables, consonant + vowel, in phrases with pauses. What the mouth does is a function of the sound:
each vowel has an opening and a rounding, consonants close or narrow the lips, and both tracks are smoothed by
a window of ±80 ms (coarticulation), so that they can be inferred from the sound with at most 80 ms of look-ahead.
Letters: S samples at 16 kHz, T frames at 25 per second, 640 samples each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from portrait.timing import SAMPLE_RATE, SAMPLES_PER_FRAME

LOOK_AHEAD_S = 0.08
_STEP = 80  # samples of a control step, 5 ms
_CONTROL = SAMPLE_RATE // _STEP

# formants in Hz of an adult male voice (Peterson and Barney 1952, rounded), opening and rounding of the lips
VOWELS: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "a": ((730, 1090, 2440), 1.0, 0.0),
    "e": ((530, 1840, 2480), 0.6, -0.55),
    "i": ((270, 2290, 3010), 0.32, -1.0),
    "o": ((520, 850, 2410), 0.55, 0.7),
    "u": ((300, 700, 2240), 0.22, 1.0),
    "m": ((250, 1100, 2200), 0.0, 0.0),
}
_NAMES = tuple(VOWELS)
_BANDWIDTHS = (70.0, 100.0, 160.0)
# consonants: noise band in Hz or None, noise level, opening of the lips, seconds
_CONSONANTS: dict[str, tuple[tuple[float, float] | None, float, float, float]] = {
    "": (None, 0.0, 0.25, 0.02),
    "m": (None, 0.0, 0.0, 0.08),
    "b": ((200, 1200), 0.25, 0.0, 0.06),
    "s": ((4200, 7400), 0.3, 0.14, 0.1),
    "sh": ((2000, 5500), 0.35, 0.2, 0.1),
    "t": ((3000, 7000), 0.3, 0.2, 0.05),
    "f": ((1200, 7000), 0.12, 0.05, 0.09),
}


@dataclass(frozen=True)
class Voice:
    """What makes a speaker sound like themselves."""

    pitch_hz: float = 120.0
    """Mean fundamental."""
    formant_scale: float = 1.0
    """Factor on all formants."""


@dataclass(frozen=True)
class Speech:
    """A piece of synthetic speech with what the mouth does."""

    audio: np.ndarray
    """float32 [S] in [-1, 1], peak 0.8."""
    opening: np.ndarray
    """float32 [T] in [0, 1]."""
    rounding: np.ndarray
    """float32 [T], -1 spread … 1 round."""
    energy: np.ndarray
    """float32 [T] in [0, 1], loudness of the voice."""


def speech(seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Speech of a random voice: audio float32 [S] at 16 kHz and the mouth's opening float32 [T] in [0, 1]."""
    rng = np.random.default_rng([seed, 20])
    spoken = synthesize(
        seconds,
        seed,
        Voice(pitch_hz=float(rng.uniform(90, 240)), formant_scale=float(rng.uniform(0.95, 1.2))),
    )
    return spoken.audio, spoken.opening


def synthesize(seconds: float, seed: int, voice: Voice) -> Speech:
    """Synthesises `seconds` of speech-like sound.

    Args:
        seconds: length; rounded to whole frames.
        seed: draws the syllables.
        voice: whose.

    Returns:
        Audio of T·640 samples and the tracks of T frames; the track's value of frame i is the mouth's at the
        frame's middle.

    Raises:
        ValueError: seconds is not positive.
    """
    num_frames = round(seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
    if num_frames < 1:
        raise ValueError(f"seconds: found {seconds}, expected at least one frame (0.04)")
    rng = np.random.default_rng([seed, 21])
    steps = num_frames * SAMPLES_PER_FRAME // _STEP
    score = _write_score(steps, rng)
    audio = _voice_sound(score, voice, rng) + _noise_sound(score, rng)
    audio = audio / max(1e-6, float(np.abs(audio).max())) * 0.8
    middle = (np.arange(num_frames) * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2) // _STEP
    opening = np.clip(
        1.2 * _coarticulate(score.opening), 0, 1
    )  # smoothing takes from the peaks what this gives back
    energy = _coarticulate(score.level)
    return Speech(
        *(
            a.astype(np.float32)
            for a in (
                audio,
                opening[middle],
                _coarticulate(score.rounding)[middle],
                energy[middle] / max(1e-6, energy.max()),
            )
        )
    )


@dataclass(frozen=True)
class _Score:
    """Control tracks, one value every 5 ms."""

    level: np.ndarray
    weights: np.ndarray  # [steps, vowels] how much of each vowel's filter is heard
    pitch: np.ndarray  # factor on the voice's pitch
    opening: np.ndarray
    rounding: np.ndarray
    noise: dict[tuple[float, float], np.ndarray]


def _write_score(steps: int, rng: np.random.Generator) -> _Score:
    score = _Score(
        np.zeros(steps), np.zeros((steps, len(VOWELS))), np.ones(steps), np.zeros(steps), np.zeros(steps), {}
    )
    t = int(rng.uniform(0.02, 0.35) * _CONTROL)
    while t < steps:
        count = int(rng.integers(2, 9))
        start = t
        for _ in range(count):
            stress = 1.0 if rng.random() < 0.35 else float(rng.uniform(0.5, 0.85))
            t = _write_syllable(score, t, stress, rng)
            if t >= steps:
                break
        end = min(t, steps)
        length = max(1, end - start)
        fall = np.linspace(1.12, 0.86, length) + 0.05 * np.sin(
            np.linspace(0, rng.uniform(2, 6) * np.pi, length) + rng.uniform(0, 6)
        )
        score.pitch[start:end] *= fall[: end - start]
        t += int(rng.uniform(0.2, 1.0) * _CONTROL)
    return score


def _write_syllable(score: _Score, t: int, stress: float, rng: np.random.Generator) -> int:
    steps = len(score.level)
    name = str(rng.choice(list(_CONSONANTS)))
    band, noise_level, lips, seconds = _CONSONANTS[name]
    n = max(2, int(seconds * rng.uniform(0.8, 1.3) * _CONTROL))
    stop = min(t + n, steps)
    score.opening[t:stop] = lips
    vowel = int(rng.integers(5))
    if name in ("m", "b"):
        score.level[t:stop] = 0.35 * stress if name == "m" else 0.1 * stress
        score.weights[t:stop, 5] = 1
    else:
        score.weights[t:stop, vowel] = 1
    if band is not None and stop > t:
        hump = np.sin(np.linspace(0, np.pi, stop - t)) * noise_level
        score.noise.setdefault(band, np.zeros(steps))[t:stop] = hump
    t = stop
    n = int(rng.uniform(0.11, 0.24) * (0.8 + 0.4 * stress) * _CONTROL)
    stop = min(t + n, steps)
    if stop > t:
        envelope = np.sin(np.linspace(0.12, np.pi - 0.12, n)) ** 0.55
        _, opening, rounding = VOWELS[_NAMES[vowel]]
        score.level[t:stop] = (stress * envelope)[: stop - t]
        score.weights[t:stop, vowel] = 1
        score.opening[t:stop] = (opening * (0.45 + 0.55 * stress) * envelope)[: stop - t]
        score.rounding[t:stop] = rounding
        score.pitch[t:stop] = 1 + 0.12 * (stress - 0.6)
    return stop


def _coarticulate(track: np.ndarray) -> np.ndarray:
    """Smooths control tracks [steps] by a Hann window of ±80 ms."""
    half = int(LOOK_AHEAD_S * _CONTROL)
    window = np.hanning(2 * half + 1)
    return (
        np.convolve(track, window / window.sum(), mode="same")[: len(track)]
        if len(track) > 2 * half
        else track * 0 + track.mean()
    )


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    n = max(1, int(seconds * _CONTROL))
    window = np.hanning(2 * n + 1)
    window /= window.sum()
    return np.apply_along_axis(
        lambda a: np.convolve(np.pad(a, n, mode="edge"), window, mode="valid"), 0, track
    )


def _at_samples(track: np.ndarray) -> np.ndarray:
    """Control track -> samples, linearly."""
    samples = len(track) * _STEP
    return np.interp(np.arange(samples), np.arange(len(track)) * _STEP + _STEP / 2, track)


def _voice_sound(score: _Score, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Glottal source through one resonator chain per vowel; the vowels' outputs are cross-faded."""
    pitch = _at_samples(_smooth(score.pitch, 0.04)) * voice.pitch_hz
    pitch *= 1 + 0.008 * np.sin(2 * np.pi * 5.2 * np.arange(len(pitch)) / SAMPLE_RATE)
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    # Rosenberg's pulse (1971): opens over 40 % of the period, closes over 16 %
    pulse = np.where(
        phase < 0.4,
        0.5 * (1 - np.cos(np.pi * phase / 0.4)),
        np.where(phase < 0.56, np.cos(np.pi / 2 * (phase - 0.4) / 0.16), 0.0),
    )
    source = np.diff(pulse, prepend=0.0) + 0.004 * rng.standard_normal(len(pulse))  # lip radiation, breath
    source *= _at_samples(_smooth(score.level, 0.012))
    weights = _smooth(score.weights, 0.02)
    out = np.zeros(len(source))
    for k, name in enumerate(_NAMES):
        if weights[:, k].any():
            # fades before the filter: what is not heard is not filtered loudly, and the tail rings naturally
            out += _formants(source * _at_samples(weights[:, k]), VOWELS[name][0], voice.formant_scale)
    return out


def _formants(source: np.ndarray, formants: tuple[float, float, float], scale: float) -> np.ndarray:
    """A cascade of second-order resonators of unit gain at 0 Hz (Klatt 1980)."""
    for frequency, bandwidth in zip((*formants, 3700.0), (*_BANDWIDTHS, 250.0), strict=True):
        r = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        a1, a2 = 2 * r * np.cos(2 * np.pi * min(frequency * scale, 7200) / SAMPLE_RATE), -r * r
        source = np.asarray(lfilter([1 - a1 - a2], [1, -a1, -a2], source))
    return source


def _noise_sound(score: _Score, rng: np.random.Generator) -> np.ndarray:
    samples = len(score.level) * _STEP
    out = 0.0006 * rng.standard_normal(samples)  # the room
    for band in sorted(score.noise):
        hiss = sosfilt(
            butter(2, band, "bandpass", fs=SAMPLE_RATE, output="sos"), rng.standard_normal(samples)
        )
        out += 0.12 * np.asarray(hiss) * _at_samples(_smooth(score.noise[band], 0.008))
    return out

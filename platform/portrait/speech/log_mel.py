"""Log-mel features: the embedded speech encoder, which needs no weights.

A frame has `subframes` spectra of 25 ms (Hann, 512-point, power, Slaney's mel scale and normalisation up to 8 kHz).
They are spread evenly over the frame's own 40 ms and its look-ahead and end where the look-ahead ends, so that a frame
covers its own time as well as what follows: without look-ahead one every 10 ms, with 80 ms one every 30 ms, which
neighbouring frames interleave to a grid of 10 ms. (Spectra 10 ms apart, shifted by the whole look-ahead, would miss a
group's first 65 ms.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portrait.speech.encoder import Samples, SpeechEncoder
from portrait.timing import SAMPLE_RATE, SAMPLES_PER_FRAME

WINDOW = SAMPLE_RATE // 40
"""Samples of an analysis window: 25 ms."""
FFT = 512
FLOOR = 1e-5
"""Added to the power before the logarithm."""


def mel_of_hertz(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's mel scale: linear up to 1 kHz, logarithmic above."""
    linear = frequency * 3 / 200
    logarithmic = 15 + 27 * np.log(np.maximum(frequency, 1e-9) / 1000) / np.log(6.4)
    return np.where(frequency < 1000, linear, logarithmic)


def hertz_of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `mel_of_hertz`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_filters(bins: int) -> NDArray[np.float64]:
    """Triangular filters of equal area, [bins, FFT/2 + 1], from 0 Hz to 8 kHz."""
    limits = mel_of_hertz(np.array([0.0, SAMPLE_RATE / 2]))
    edges = hertz_of_mel(np.linspace(limits[0], limits[1], bins + 2))
    frequencies = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    widths = np.diff(edges)
    rising = (frequencies - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - frequencies) / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles * (2 / (edges[2:] - edges[:-2]))[:, None]


class LogMelEncoder(SpeechEncoder):
    """`subframes` log-mel spectra of `mel_bins` bands for every frame; dim = subframes × mel_bins."""

    def __init__(
        self, *, mel_bins: int = 40, subframes: int = 4, look_ahead_ms: int = 80, levelled: bool = False
    ) -> None:
        self.look_ahead_samples = look_ahead_ms * SAMPLE_RATE // 1000
        self.dim = mel_bins * subframes
        self.id = f"log_mel/bins={mel_bins}/subframes={subframes}/look_ahead_ms={look_ahead_ms}"
        self.level_input(levelled=levelled)
        hop = (SAMPLES_PER_FRAME + self.look_ahead_samples) // subframes
        # First samples of a frame's windows, counted from the frame's own first sample.
        last = SAMPLES_PER_FRAME + self.look_ahead_samples - WINDOW
        self._offsets = last - hop * np.arange(subframes)[::-1]
        self.left_context_samples = max(0, -int(self._offsets[0]))
        # In float64: then a frame's features do not depend on how many are computed together, to 1e-9.
        self._window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
        self._filters = mel_filters(mel_bins)

    def chunk_end(self, first_frame: int) -> int:
        return first_frame + 1

    def encode_chunks(
        self, samples: Samples, start: int, first_frame: int, end_frame: int
    ) -> NDArray[np.float32]:
        before = max(0, self.left_context_samples - first_frame * SAMPLES_PER_FRAME)
        padded = np.concatenate((np.zeros(before), samples[self.needed_from(first_frame) - start :]))
        origin = first_frame * SAMPLES_PER_FRAME - self.left_context_samples
        frames = np.arange(first_frame, end_frame)[:, None] * SAMPLES_PER_FRAME
        begins = frames + self._offsets - origin
        windows = padded[begins[..., None] + np.arange(WINDOW)] * self._window
        power = np.abs(np.fft.rfft(windows, FFT)) ** 2
        log_mel = np.log(power @ self._filters.T + FLOOR)
        # Silence is at -1.4, loud speech around 2.
        return ((log_mel + 6) / 4).reshape(end_frame - first_frame, self.dim).astype(np.float32)

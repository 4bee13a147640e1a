"""Sound in and out: everything becomes 16 kHz mono float32 in [-1, 1], one array [S].

640 samples are one video frame (25 frames/s), so the rate is not a setting. Files of any rate, layout and codec are
converted. The tables keep sound as 16-bit FLAC (RFC 9639).
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame

from portrait.media.audio_track import TrackPiece, iter_track
from portrait.media.container import MediaSource, label_of, open_media
from portrait.media.downmix import Downmix, without_cancellation
from portrait.media.track_choice import choose_audio_track
from portrait.timing import SAMPLE_RATE


def read_audio(source: MediaSource, *, name: str | None = None) -> np.ndarray:
    """Reads the sound of a file (a sound file or a video) from its first sample.

    Returns:
        float32 [S], 16 kHz mono in [-1, 1]; see `portrait.media.downmix` for what becomes of several channels, and
        `portrait.media.track_choice` for several tracks.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no sound track, not decodable, empty, or not finite.
    """
    label = label_of(source, name)
    with open_media(source, name=name) as container:
        if not container.streams.audio:
            raise ValueError(f"{label}: has no sound track")
    track = choose_audio_track(source, label)

    def decode(downmix: Downmix) -> np.ndarray:
        with open_media(source, name=name) as container:
            return at_sample_rate(iter_track(container, label=label, track=track, downmix=downmix))

    audio = without_cancellation(decode, label)
    if audio.size == 0:
        raise ValueError(f"{label}: the sound track is empty")
    return audio


def at_sample_rate(track: Iterable[TrackPiece]) -> np.ndarray:
    """A track at 16 kHz, float32 [S] in [-1, 1].

    It is converted as it is decoded: hours at the track's own rate would take gigabytes.
    """
    resampler, pieces = None, [np.zeros(0, np.float32)]
    for samples, rate, _ in track:
        resampler = resampler or Resampler(rate, SAMPLE_RATE)
        pieces.append(resampler.push(samples))
    if resampler is not None:
        pieces.append(resampler.finish())
    audio = np.concatenate(pieces)
    return np.clip(audio, -1.0, 1.0, out=audio)


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Converts a whole recording; see `Resampler`.

    Args:
        audio: float32 [S].
        from_rate: Hz.
        to_rate: Hz.

    Returns:
        float32 [round(S · to_rate / from_rate)].
    """
    resampler = Resampler(from_rate, to_rate)
    return np.concatenate([resampler.push(audio), resampler.finish()])


class Resampler:
    """Band-limited conversion between sample rates, piece by piece, without delay: sample 0 stays at time 0.

    The result does not depend on how the sound is cut into pieces.

    Args:
        from_rate: Hz.
        to_rate: Hz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        if from_rate <= 0 or to_rate <= 0:
            raise ValueError(f"sample rate: expected positive, found {from_rate} and {to_rate}")
        self._from_rate, self._to_rate = from_rate, to_rate
        self._resampler = av.AudioResampler(
            format="flt", layout="mono", rate=to_rate, options={"filter_size": "64", "cutoff": "0.97"}
        )
        # The filter mirrors the sound at its edges; silence around it gives the edges of a sound that begins there.
        unit = from_rate // math.gcd(from_rate, to_rate)
        self._margin = unit * math.ceil(from_rate / 10 / unit)  # a whole number of samples at both rates
        self._fed = 0
        """Samples that went in, including the silence in front of them."""
        self._taken = self._given = 0
        self._skip = self._margin * to_rate // from_rate
        """Output samples still to come that belong to the silence."""

    def push(self, audio: np.ndarray) -> np.ndarray:
        """Takes the next samples, float32 [S], and returns those that are finished, float32 [R]."""
        audio = np.ascontiguousarray(audio, dtype=np.float32)
        if audio.ndim != 1:
            raise ValueError(f"audio: expected [S], found {list(audio.shape)}")
        self._taken += audio.size
        if self._from_rate == self._to_rate:
            return audio
        if audio.size and not self._fed:
            audio = np.concatenate([np.zeros(self._margin, np.float32), audio])
        return self._kept(self._converted(audio))

    def finish(self) -> np.ndarray:
        """Returns the last samples, float32 [R], which make up round(S · to_rate / from_rate) in all."""
        if self._from_rate == self._to_rate or not self._taken:
            return np.zeros(0, np.float32)
        rest = [self._converted(np.zeros(2 * self._margin, np.float32))]
        rest += [piece.to_ndarray()[0] for piece in self._resampler.resample(None)]
        length = round(self._taken * self._to_rate / self._from_rate) - self._given
        return self._kept(np.concatenate(rest))[:length]

    def _converted(self, audio: np.ndarray) -> np.ndarray:
        if not audio.size:
            return audio
        frame = AudioFrame.from_ndarray(audio[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = (
            self._from_rate,
            self._fed,
            Fraction(1, self._from_rate),
        )
        self._fed += audio.size
        pieces = [piece.to_ndarray()[0] for piece in self._resampler.resample(frame)]
        return np.concatenate([np.zeros(0, np.float32), *pieces])

    def _kept(self, samples: np.ndarray) -> np.ndarray:
        kept = samples[self._skip :]
        self._skip -= samples.size - kept.size
        self._given += kept.size
        return kept


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Float samples in [-1, 1] as 16-bit integers (clipped, rounded); the inverse divides by 32768."""
    return np.clip(np.rint(np.asarray(audio, np.float32) * 32768.0), -32768, 32767).astype(np.int16)


def encode_flac(audio: np.ndarray) -> bytes:
    """Encodes 16 kHz mono samples float32 [S] as 16-bit FLAC; the same samples give the same bytes."""
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"audio: expected [S] with at least one sample, found {list(audio.shape)}")
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        frame = AudioFrame.from_ndarray(to_int16(audio)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_flac(data: bytes) -> np.ndarray:
    """Decodes what `encode_flac` wrote: float32 [S], exact multiples of 1/32768.

    Raises:
        ValueError: not FLAC, damaged, or not 16 kHz.
    """
    with open_media(data, name="FLAC") as container:
        track = list(iter_track(container, label="FLAC"))
    if track and track[0][1] != SAMPLE_RATE:
        raise ValueError(f"FLAC: expected {SAMPLE_RATE} Hz, found {track[0][1]}")
    return np.concatenate([np.zeros(0, np.float32), *(samples for samples, _, _ in track)])


def write_wav(path: str | Path, audio: np.ndarray, rate: int = SAMPLE_RATE) -> None:
    """Writes samples float32 [S] as a 16-bit mono WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(to_int16(audio).astype("<i2").tobytes())

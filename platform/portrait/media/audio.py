"""Sound in and out: everything becomes 16 kHz mono float32 in [-1, 1], one array [S].

640 samples are one video frame (25 frames/s), so the rate is not a setting. Files of any rate, layout and codec are
converted. The tables keep sound as 16-bit FLAC (RFC 9639).
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer

from portrait.media.container import (
    MediaSource,
    is_cut_off,
    label_of,
    open_media,
    promised_seconds,
    reason_of,
)
from portrait.timing import SAMPLE_RATE

TrackPiece: TypeAlias = tuple[np.ndarray, int, float]
"""Samples float32 [S] at their own rate, that rate in Hz, and the time of the track's first sample in seconds."""
_MAX_GAP_SECONDS = 60.0
MAX_CLOCK_BACK_SECONDS = 1.0
"""Timestamps that go back by more come from another file joined to this one; less is jitter."""


def read_audio(source: MediaSource, *, name: str | None = None) -> np.ndarray:
    """Reads the first sound track of a file (a sound file or a video) from its first sample.

    Returns:
        float32 [S], 16 kHz mono in [-1, 1]; channels are averaged.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no sound track, not decodable, empty, or not finite.
    """
    label = label_of(source, name)
    with open_media(source, name=name) as container:
        if not container.streams.audio:
            raise ValueError(f"{label}: has no sound track")
        audio = at_sample_rate(iter_track(container, label=label))
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


def iter_track(
    container: InputContainer, *, label: str, until_s: float | None = None
) -> Iterator[TrackPiece]:
    """Decodes the first sound track piece by piece, by its timestamps: gaps become silence, overlaps are cut.

    The encoder's priming samples are dropped by FFmpeg according to the container (edit list, LAME tag), so a sample's
    timestamp is when it is heard.

    Args:
        container: opened for reading and not yet read from.
        label: the file's name for errors.
        until_s: stop after this time (seconds on the container's clock).

    Yields:
        Pieces, one after another without a gap; rate and time are the same for all.

    Raises:
        ValueError: undecodable, not finite, or a track that changes its rate.
    """
    rate, start, written = 0, Fraction(0), 0
    for frame in _frames(container, label):
        piece = _to_mono(frame, label)
        if not rate:
            rate, start = frame.sample_rate, _time(frame, Fraction(0))
        if frame.sample_rate != rate:
            raise ValueError(f"{label}: sound changes from {rate} to {frame.sample_rate} Hz within the track")
        expected = start + Fraction(written, rate)
        offset = round((_time(frame, expected) - expected) * rate)
        # Containers with a coarse clock (Matroska: milliseconds) jitter around the true time: only a real jump
        # moves it.
        if abs(offset) > rate // 100:
            if offset < -rate * MAX_CLOCK_BACK_SECONDS:
                raise ValueError(
                    f"{label}: damaged sound at {float(expected):.2f} s, the clock goes back by {-offset / rate:.0f} s "
                    "(files joined end to end? remux them)"
                )
            if offset > rate * _MAX_GAP_SECONDS:
                raise ValueError(
                    f"{label}: damaged sound, a gap of {offset / rate:.0f} s at {float(expected):.2f} s"
                )
            piece = np.concatenate([np.zeros(max(offset, 0), np.float32), piece[max(-offset, 0) :]])
        if not np.isfinite(piece).all():
            raise ValueError(f"{label}: the sound holds values that are not finite (NaN or infinity)")
        written += piece.size
        yield piece, rate, float(start)
        if until_s is not None and start + Fraction(written, rate) >= until_s:
            return
    _check_complete(container, float(start) + written / (rate or SAMPLE_RATE), label)


def _frames(container: InputContainer, label: str):
    stream = container.streams.audio[0]
    at = 0.0
    try:
        for frame in container.decode(stream):
            yield frame
            at = frame.time or at
    except av.error.FFmpegError as error:
        raise ValueError(f"{label}: damaged sound at {at:.2f} s ({reason_of(error)})") from error


def _check_complete(container: InputContainer, end_s: float, label: str) -> None:
    """Refuses sound that breaks off, which would be heard as silence: compares with the length in the index.

    Only MP4 and Matroska store that length; other containers estimate it, or have one length for all tracks.
    """
    stream = container.streams.audio[0]
    promised = promised_seconds(stream)
    if promised is None or not ("DURATION" in stream.metadata or "mp4" in container.format.name):
        return
    if is_cut_off(end_s, promised):
        raise ValueError(
            f"{label}: the sound is cut off at {end_s:.2f} s, its index promises {promised:.2f} s"
        )


def _time(frame: AudioFrame, default: Fraction) -> Fraction:
    if frame.pts is None or frame.time_base is None:
        return default
    return frame.pts * Fraction(frame.time_base)


def _to_mono(frame: AudioFrame, label: str) -> np.ndarray:
    """Averages a decoded frame's channels: float32 [samples]."""
    try:
        values = frame.to_ndarray()
    except (ValueError, KeyError) as error:
        raise ValueError(f"{label}: sound format {frame.format.name} is not supported") from error
    channels = len(frame.layout.channels)
    if not frame.format.is_planar:
        values = values.reshape(-1, channels).T
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128.0) / 128.0
    elif np.issubdtype(values.dtype, np.integer):
        values = values.astype(np.float64) / float(1 << (8 * values.dtype.itemsize - 1))
    return values.mean(axis=0, dtype=np.float64).astype(np.float32)


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

"""Decoding a sound track by its timestamps: pieces at the track's own rate, one channel, without gaps or overlaps.

Letter: `S` samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TypeAlias

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from portrait.media.container import is_cut_off, promised_seconds, reason_of
from portrait.media.downmix import Downmix
from portrait.timing import SAMPLE_RATE

TrackPiece: TypeAlias = tuple[np.ndarray, int, float]
"""Samples float32 [S] at their own rate, that rate in Hz, and the time of the track's first sample in seconds."""
_MAX_GAP_SECONDS = 60.0
MAX_CLOCK_BACK_SECONDS = 1.0
"""A larger step back comes from another file that was appended to this one; a smaller one is jitter."""
_COUNTED = frozenset(("mp3", "aac", "ac3", "eac3", "flac", "amr"))
"""FFmpeg's names of formats that hold nothing but coded sound, whose timestamps are counted from its samples."""
_JOINABLE = _COUNTED | {"ogg"}
"""Formats in which concatenated files are a valid file: players play all of it; speech services produce these."""
_TAG_HEADER = 10
"""Bytes of an ID3v2 header (https://id3.org/id3v2.4.0-structure, 3.1)."""


def iter_track(
    container: InputContainer,
    *,
    label: str,
    until_s: float | None = None,
    track: int = 0,
    downmix: Downmix | None = None,
) -> Iterator[TrackPiece]:
    """Decodes a sound track piece by piece, by its timestamps: gaps become silence, overlaps are cut.

    The encoder's priming samples are dropped by FFmpeg according to the container (edit list, LAME tag), so a sample's
    timestamp is when it is heard. Sound files joined end to end are read as one.

    Args:
        container: opened for reading and not yet read from.
        label: the file's name for errors.
        until_s: stop after this time (seconds on the container's clock).
        track: number of the track among the sound tracks, from 0.
        downmix: makes one channel of several; by default a mix.

    Yields:
        Pieces, one after another without a gap; rate and time are the same for all.

    Raises:
        ValueError: undecodable, not finite, or a track that changes its rate.
    """
    stream, mix = container.streams.audio[track], downmix or Downmix()
    counted, joinable = container.format.name in _COUNTED, container.format.name in _JOINABLE
    rate, start, written, joined = 0, Fraction(0), 0, Fraction(0)
    for frame in _frames(container, stream, label):
        piece = mix(frame, label)
        if not rate:
            rate, start = frame.sample_rate, _time(frame, Fraction(0))
        if frame.sample_rate != rate:
            raise ValueError(f"{label}: sound changes from {rate} to {frame.sample_rate} Hz within the track")
        expected = start + Fraction(written, rate)
        time = expected if counted else _time(frame, expected) + joined
        if joinable and expected - time > MAX_CLOCK_BACK_SECONDS:
            time, joined = expected, joined + expected - time
        offset = round((time - expected) * rate)
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
    _check_complete(container, stream, float(start) + written / (rate or SAMPLE_RATE), label)


def _frames(container: InputContainer, stream: AudioStream, label: str) -> Iterator[AudioFrame]:
    """Decodes frame by frame; the tags in front of a joined file's sound are skipped."""
    at, tag_end = 0.0, 0
    try:
        for packet in container.demux(stream):
            if packet.pos is not None and packet.pos < tag_end:
                continue
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                tag_end = _tag_end(packet) if container.format.name in _COUNTED else 0
                if not tag_end:
                    raise
                continue
            for frame in frames:
                yield frame
                at = frame.time or at
    except av.error.FFmpegError as error:
        raise ValueError(f"{label}: damaged sound at {at:.2f} s ({reason_of(error)})") from error


def _tag_end(packet: Packet) -> int:
    """Where the tag within a packet ends in the file, in bytes; 0 without a tag.

    An ID3v2 header: "ID3", version, flags, and the length of the rest in four bytes of seven bits.
    """
    data, begin = bytes(packet), packet.pos or 0
    at = data.find(b"ID3")
    header = data[at : at + _TAG_HEADER] if at >= 0 else b""
    if len(header) == _TAG_HEADER and max(header[6:]) < 0x80:
        length = sum(byte << (7 * place) for place, byte in enumerate(reversed(header[6:])))
        return begin + at + _TAG_HEADER + length
    # The tags that end a file (ID3v1, APE) are short and hold nothing that looks like sound.
    return begin + len(data) if b"TAG" in data or b"APETAGEX" in data else 0


def _check_complete(container: InputContainer, stream: AudioStream, end_s: float, label: str) -> None:
    """Rejects truncated sound, which would be heard as silence: compares it with the length in the index.

    Only MP4 and Matroska store that length; other containers estimate it, or have one length for all tracks.
    """
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

"""Fragmented MP4 as bytes (ISO/IEC 14496-12, AVC in 14496-15, AAC in 14496-14): an init segment, then fragments.

Written by hand, since FFmpeg's muxer holds a fragment back until the next key frame arrives, which here is a
whole block (0.64 s) of latency. Two tracks: 1 is H.264, 2 is AAC. Every function returns finished boxes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

VIDEO_TRACK, AUDIO_TRACK = 1, 2
_MOVIE_TIMESCALE = 1000
_IDENTITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_KEY_FRAME = 0x02000000  # sample_depends_on = 2: on no other sample
_DEPENDENT_FRAME = 0x01010000  # depends on others, is not a sync sample


@dataclass(frozen=True, kw_only=True)
class VideoTrack:
    """What the init segment says of the pictures."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    timescale: int
    """Ticks a second of this track's times."""
    sps: bytes
    """Sequence parameter set, a NAL unit without start code."""
    pps: bytes
    """Picture parameter set, a NAL unit without start code."""


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """What the init segment says of the sound."""

    sample_rate: int
    """Hz; also the ticks a second of this track's times."""
    specific_config: bytes
    """AudioSpecificConfig (ISO/IEC 14496-3) of the AAC encoder."""
    bit_rate: int
    """Bits a second."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Consecutive samples of one track in a fragment."""

    track: int
    """`VIDEO_TRACK` or `AUDIO_TRACK`."""
    decode_time: int
    """Time of the first sample in the track's ticks."""
    samples: Sequence[bytes]
    """The samples' data: length-prefixed NAL units, or raw AAC frames."""
    durations: Sequence[int]
    """Ticks each sample lasts."""


def box(kind: bytes, *payload: bytes) -> bytes:
    """A box: size, type, content."""
    body = b"".join(payload)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *payload: bytes) -> bytes:
    """A box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payload)


def init_segment(video: VideoTrack, audio: AudioTrack) -> bytes:
    """The `ftyp` and `moov` that Media Source Extensions want before any fragment."""
    ftyp = box(b"ftyp", b"iso5", struct.pack(">I", 0x200), b"iso5iso6mp41avc1")
    mvhd = full_box(
        b"mvhd", 0, 0, struct.pack(">4I", 0, 0, _MOVIE_TIMESCALE, 0), struct.pack(">IH10x", 0x10000, 0x0100), _IDENTITY,
        bytes(24), struct.pack(">I", AUDIO_TRACK + 1),
    )  # fmt: skip
    mvex = box(b"mvex", _trex(VIDEO_TRACK), _trex(AUDIO_TRACK))
    return ftyp + box(b"moov", mvhd, _video_trak(video), _audio_trak(audio), mvex)


def _trex(track: int) -> bytes:
    return full_box(b"trex", 0, 0, struct.pack(">5I", track, 1, 0, 0, 0))


def _video_trak(video: VideoTrack) -> bytes:
    avcc = box(
        b"avcC",
        bytes([1, *video.sps[1:4], 0xFF, 0xE1]),  # four-byte NAL lengths, one SPS
        struct.pack(">H", len(video.sps)), video.sps,
        b"\x01", struct.pack(">H", len(video.pps)), video.pps,
    )  # fmt: skip
    colr = box(b"colr", b"nclx", struct.pack(">3HB", 1, 1, 1, 0))  # BT.709, limited range
    entry = box(
        b"avc1",
        struct.pack(">6xH16x2H", 1, video.width, video.height),
        struct.pack(">2I4xH32xHh", 0x480000, 0x480000, 1, 0x18, -1),
        avcc,
        colr,
    )
    vmhd = full_box(b"vmhd", 0, 1, bytes(8))
    tkhd = _tkhd(VIDEO_TRACK, 0, video.width, video.height)
    return box(b"trak", tkhd, _mdia(video.timescale, b"vide", b"VideoHandler\0", vmhd, entry))


def _audio_trak(audio: AudioTrack) -> bytes:
    # Descriptors of ISO/IEC 14496-1: ES (3) > decoder configuration (4) > AudioSpecificConfig (5), then SL (6).
    specific = bytes([5, len(audio.specific_config)]) + audio.specific_config
    decoder = struct.pack(">BB3x2I", 0x40, 0x15, audio.bit_rate, audio.bit_rate) + specific
    stream = struct.pack(">HB", AUDIO_TRACK, 0) + bytes([4, len(decoder)]) + decoder + b"\x06\x01\x02"
    esds = full_box(b"esds", 0, 0, bytes([3, len(stream)]), stream)
    entry = box(b"mp4a", struct.pack(">6xH8x2H4xI", 1, 1, 16, audio.sample_rate << 16), esds)
    smhd = full_box(b"smhd", 0, 0, bytes(4))
    tkhd = _tkhd(AUDIO_TRACK, 0x0100, 0, 0)
    return box(b"trak", tkhd, _mdia(audio.sample_rate, b"soun", b"SoundHandler\0", smhd, entry))


def _tkhd(track: int, volume: int, width: int, height: int) -> bytes:
    return full_box(
        b"tkhd", 0, 3, struct.pack(">2II4xI8x2hH2x", 0, 0, track, 0, 0, 0, volume), _IDENTITY,
        struct.pack(">2I", width << 16, height << 16),
    )  # fmt: skip


def _mdia(timescale: int, handler: bytes, name: bytes, media_header: bytes, entry: bytes) -> bytes:
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">4I2H", 0, 0, timescale, 0, 0x55C4, 0))  # language "und"
    hdlr = full_box(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, handler), name)
    dinf = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
    empty = struct.pack(">I", 0)
    stbl = box(
        b"stbl",
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        full_box(b"stts", 0, 0, empty),
        full_box(b"stsc", 0, 0, empty),
        full_box(b"stsz", 0, 0, empty, empty),
        full_box(b"stco", 0, 0, empty),
    )
    return box(b"mdia", mdhd, hdlr, box(b"minf", media_header, dinf, stbl))


def fragment(sequence: int, runs: Sequence[Run]) -> bytes:
    """One `moof` with its `mdat`; in a video run the first sample is a key frame and no other.

    Args:
        sequence: counts fragments from 1.
        runs: at most one a track, none empty.
    """
    runs = [run for run in runs if run.samples]
    # Offsets count from the start of the moof, whose size does not depend on them: build twice.
    size = len(_moof(sequence, runs, [0] * len(runs)))
    offsets, position = [], size + 8
    for run in runs:
        offsets.append(position)
        position += sum(map(len, run.samples))
    return _moof(sequence, runs, offsets) + box(b"mdat", *(sample for run in runs for sample in run.samples))


def _moof(sequence: int, runs: Sequence[Run], offsets: Sequence[int]) -> bytes:
    trafs = [_traf(run, offset) for run, offset in zip(runs, offsets, strict=True)]
    return box(b"moof", full_box(b"mfhd", 0, 0, struct.pack(">I", sequence)), *trafs)


def _traf(run: Run, offset: int) -> bytes:
    tfhd = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", run.track))  # default-base-is-moof
    tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", run.decode_time))
    later = _DEPENDENT_FRAME if run.track == VIDEO_TRACK else _KEY_FRAME
    rows = b"".join(
        struct.pack(">3I", duration, len(sample), later if index else _KEY_FRAME)
        for index, (sample, duration) in enumerate(zip(run.samples, run.durations, strict=True))
    )
    # Flags: data offset, and each sample's duration, size and flags.
    trun = full_box(b"trun", 0, 0x000701, struct.pack(">Ii", len(run.samples), offset), rows)
    return box(b"traf", tfhd, tfdt, trun)


def random_access(entries: Sequence[tuple[int, int]]) -> bytes:
    """The closing `mfra`: where each fragment begins, so that players can seek in the saved file.

    Args:
        entries: (video decode time, byte offset of the moof) a fragment.
    """
    rows = b"".join(struct.pack(">2Q3B", time, offset, 1, 1, 1) for time, offset in entries)
    tfra = full_box(b"tfra", 1, 0, struct.pack(">3I", VIDEO_TRACK, 0, len(entries)), rows)
    return box(b"mfra", tfra, full_box(b"mfro", 0, 0, struct.pack(">I", 8 + len(tfra) + 16)))

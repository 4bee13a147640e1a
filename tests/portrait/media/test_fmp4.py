"""Tests of portrait.media.fmp4: the box structure against FFmpeg's demuxer is in test_stream; here the arithmetic."""

from __future__ import annotations

import struct

from portrait.media import fmp4


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        assert size >= 8
        found.append((kind, data[position + 8 : position + size]))
        position += size
    assert position == len(data)
    return found


def test_data_offsets_point_at_each_track() -> None:
    video = fmp4.Run(track=1, decode_time=7, samples=[b"video-a", b"video-b"], durations=[10, 10])
    audio = fmp4.Run(track=2, decode_time=9, samples=[b"sound"], durations=[1024])
    data = fmp4.fragment(3, [video, audio])
    (kind, moof), (other, _) = _boxes(data)
    assert (kind, other) == (b"moof", b"mdat")
    trafs = [body for name, body in _boxes(moof) if name == b"traf"]
    for run, traf in zip((video, audio), trafs, strict=True):
        boxes = dict(_boxes(traf))
        assert struct.unpack(">I", boxes[b"tfhd"][4:])[0] == run.track
        assert struct.unpack(">Q", boxes[b"tfdt"][4:])[0] == run.decode_time
        count, offset = struct.unpack_from(">Ii", boxes[b"trun"], 4)
        assert count == len(run.samples)
        assert data[offset:].startswith(b"".join(run.samples))


def test_only_the_first_picture_is_a_key_frame() -> None:
    run = fmp4.Run(track=1, decode_time=0, samples=[b"a", b"b", b"c"], durations=[1, 1, 1])
    moof = dict(_boxes(fmp4.fragment(1, [run])))[b"moof"]
    trun = dict(_boxes(dict(_boxes(moof))[b"traf"]))[b"trun"]
    flags = [struct.unpack_from(">3I", trun, 12 + 12 * i)[2] for i in range(3)]
    non_sync = 0x00010000
    assert [bool(f & non_sync) for f in flags] == [False, True, True]


def test_empty_runs_leave_no_box() -> None:
    run = fmp4.Run(track=1, decode_time=0, samples=[b"a"], durations=[1])
    none = fmp4.Run(track=2, decode_time=0, samples=[], durations=[])
    assert fmp4.fragment(1, [run, none]) == fmp4.fragment(1, [run])

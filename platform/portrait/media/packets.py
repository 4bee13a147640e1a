"""Where a clip's packets lie in its MP4, without a demuxer: opening one costs as much as decoding several frames.

Only files of the form that `encode_video` writes are read here (ISO/IEC 14496-12: one track, constant rate, no
reordering; 14496-15: H.264 with its configuration in `avcC`). Whatever is otherwise is left to FFmpeg.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

_SAMPLE_ENTRY = 86
"""Bytes of a visual sample entry before its own boxes (ISO/IEC 14496-12, 12.1.3), its header among them."""
_FULL = 8
"""Bytes of a table before its entries: version, flags and their number."""


@dataclass(frozen=True)
class PacketTable:
    """The packets of a clip, one a frame."""

    header: bytes
    """The decoder's configuration (`avcC`)."""
    offsets: np.ndarray
    """int64 [T], a packet's first byte in the file."""
    sizes: np.ndarray
    """int64 [T], its bytes."""
    keys: np.ndarray
    """int64 [K], the key frames, in order; the first is 0."""

    def __len__(self) -> int:
        return len(self.sizes)


class _OtherFormError(Exception):
    """The file is not of the form that is read here."""


def packet_table(mp4: bytes) -> PacketTable | None:
    """Finds a clip's packets; None where the file is damaged or of another form, which a demuxer then has to tell."""
    try:
        return _read(mp4)
    except (_OtherFormError, struct.error, ValueError, IndexError, OverflowError):
        # Lengths that lie lead anywhere: NumPy and struct say so in their own ways.
        return None


def _read(mp4: bytes) -> PacketTable:
    moov = _only(_boxes(mp4, 0, len(mp4)), b"moov")
    trak = _only(_boxes(mp4, *moov), b"trak")
    boxes = _boxes(mp4, *trak)
    _check_edit_list(mp4, boxes)
    for name in (b"mdia", b"minf", b"stbl"):
        boxes = _boxes(mp4, *_only(boxes, name))
    if b"ctts" in boxes or len(_entries(mp4, boxes, b"stts", 2)) != 1:
        raise _OtherFormError
    sizes = _sizes(mp4, boxes)
    offsets = _offsets(mp4, boxes, sizes)
    # Without a list every frame is a key frame.
    keys = _entries(mp4, boxes, b"stss", 1)[:, 0] - 1 if b"stss" in boxes else np.arange(len(sizes))
    if not len(sizes) or not len(keys) or keys[0] or (np.diff(keys) <= 0).any() or keys[-1] >= len(sizes):
        raise _OtherFormError
    if (sizes <= 0).any() or (offsets + sizes).max() > len(mp4):
        raise _OtherFormError
    return PacketTable(_configuration(mp4, boxes), offsets, sizes, keys)


_Range = tuple[int, int]
_Boxes = dict[bytes, list[_Range]]


def _boxes(data: bytes, start: int, end: int) -> _Boxes:
    """Contents of the boxes in a range, by type."""
    found: _Boxes = {}
    while start < end:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size < header or start + size > end:
            raise _OtherFormError
        found.setdefault(kind, []).append((start + header, start + size))
        start += size
    return found


def _only(boxes: _Boxes, kind: bytes) -> _Range:
    if len(boxes.get(kind, ())) != 1:
        raise _OtherFormError
    return boxes[kind][0]


def _numbers(data: bytes, where: _Range, count: int, kind: str) -> np.ndarray:
    """`count` big-endian numbers from a place on, int64, none of them beyond its end."""
    start, end = where
    if start + count * np.dtype(kind).itemsize > end:
        raise _OtherFormError
    return np.frombuffer(data, kind, count, start).astype(np.int64)


def _entries(data: bytes, boxes: _Boxes, kind: bytes, columns: int, *, numbers: str = ">u4") -> np.ndarray:
    """A table's entries, int64 [N, columns]."""
    start, end = _only(boxes, kind)
    count = int(_numbers(data, (start + 4, end), 1, ">u4")[0])
    return _numbers(data, (start + _FULL, end), count * columns, numbers).reshape(count, columns)


def _sizes(data: bytes, boxes: _Boxes) -> np.ndarray:
    start, end = _only(boxes, b"stsz")
    every, count = _numbers(data, (start + 4, end), 2, ">u4")
    if every:  # all are of one size
        return np.full(int(count), every)
    return _numbers(data, (start + 12, end), int(count), ">u4")


def _offsets(data: bytes, boxes: _Boxes, sizes: np.ndarray) -> np.ndarray:
    """Packets lie one after another in chunks; `stsc` says how many from which chunk on."""
    large = b"co64" in boxes
    chunks = _entries(
        data, boxes, *((b"co64", 1) if large else (b"stco", 1)), numbers=">i8" if large else ">u4"
    )
    runs = _entries(data, boxes, b"stsc", 3)
    if not len(runs) or runs[0, 0] != 1 or (np.diff(runs[:, 0]) <= 0).any() or runs[-1, 0] > len(chunks):
        raise _OtherFormError
    per_chunk = np.repeat(runs[:, 1], np.diff(runs[:, 0], append=len(chunks) + 1))
    if per_chunk.sum() != len(sizes) or (per_chunk <= 0).any():
        raise _OtherFormError
    before = np.cumsum(sizes) - sizes
    first = np.cumsum(per_chunk) - per_chunk
    return np.repeat(chunks[:, 0] - before[first], per_chunk) + before


def _check_edit_list(data: bytes, boxes: _Boxes) -> None:
    """A list that moves or repeats the frames gives them other numbers than their places."""
    if b"edts" not in boxes:
        return
    start, end = _only(_boxes(data, *_only(boxes, b"edts")), b"elst")
    version, count = data[start], int(_numbers(data, (start + 4, end), 1, ">u4")[0])
    if version or count != 1 or _numbers(data, (start + _FULL, end), 2, ">u4")[1]:
        raise _OtherFormError


def _configuration(data: bytes, boxes: _Boxes) -> bytes:
    start, end = _only(boxes, b"stsd")
    entry = _boxes(data, start + _FULL, end)
    first, last = _only(entry, b"avc1")
    if len(entry) != 1:
        raise _OtherFormError
    begin, end = _only(_boxes(data, first - 8 + _SAMPLE_ENTRY, last), b"avcC")
    return data[begin:end]

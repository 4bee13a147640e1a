"""A few frames of a clip, without decoding the rest of it: what training asks for thousands of times.

Letters: `N` frames that are asked for, `H W`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from portrait.media.container import open_media, reason_of
from portrait.media.mp4 import rgb_pixels
from portrait.media.packets import PacketTable, packet_table
from portrait.timing import FRAME_RATE


def decode_window(mp4: bytes, indices: Sequence[int]) -> np.ndarray:
    """Decodes chosen frames of a clip, and no group of pictures that holds none of them.

    Clips that `encode_video` wrote are read packet by packet; others through FFmpeg's demuxer, which takes longer.

    Args:
        mp4: the file's content: H.264 of constant rate.
        indices: frame numbers, in any order, repeats allowed.

    Returns:
        uint8 RGB [N, H, W, 3] in the order of `indices`.

    Raises:
        ValueError: no indices, an index outside the clip, or a damaged file.
    """
    wanted = sorted({int(index) for index in indices})
    if not wanted:
        raise ValueError("indices: expected at least one frame number, found none")
    table = packet_table(mp4)
    try:
        pictures = _from_container(mp4, wanted) if table is None else _from_packets(mp4, table, wanted)
    except av.error.FFmpegError as error:
        raise ValueError(f"clip: damaged ({reason_of(error)})") from error
    missing = [index for index in wanted if index not in pictures]
    if missing:
        raise ValueError(f"clip: damaged, frames {missing} can't be decoded")
    return np.stack([pictures[int(index)] for index in indices])


def _check(wanted: Sequence[int], num_frames: int) -> None:
    if wanted[0] < 0 or wanted[-1] >= num_frames:
        raise ValueError(f"indices: expected 0 … {num_frames - 1}, found {wanted[0]} … {wanted[-1]}")


def _from_packets(mp4: bytes, table: PacketTable, wanted: list[int]) -> dict[int, np.ndarray]:
    """RGB pictures by frame number."""
    _check(wanted, len(table))
    decoder = VideoCodecContext.create("h264", "r")
    decoder.extradata, decoder.thread_count = table.header, 1
    convert = VideoReformatter()
    pictures: dict[int, np.ndarray] = {}
    groups = np.searchsorted(table.keys, wanted, side="right") - 1
    for group in np.unique(groups):
        members = {index for index, its in zip(wanted, groups, strict=True) if its == group}
        for frame in _decoded(decoder, mp4, table, range(int(table.keys[group]), max(members) + 1)):
            if frame.pts in members:
                pictures[frame.pts] = _whole_pixels(frame, convert)
    return pictures


def _decoded(
    decoder: VideoCodecContext, mp4: bytes, table: PacketTable, numbers: range
) -> Iterator[VideoFrame]:
    """Frames of a range that begins at a key frame; their `pts` is their number."""
    for number in numbers:
        offset, size = int(table.offsets[number]), int(table.sizes[number])
        packet = Packet(mp4[offset : offset + size])
        packet.pts = packet.dts = number
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
    decoder.flush_buffers()


def _whole_pixels(frame: VideoFrame, convert: VideoReformatter) -> np.ndarray:
    """RGB of a frame that FFmpeg decoded without having to guess a part of it."""
    if frame.is_corrupt:
        raise ValueError("clip: damaged, a part of it can't be decoded")
    return rgb_pixels(frame, convert)


def _from_container(mp4: bytes, wanted: list[int]) -> dict[int, np.ndarray]:
    """RGB pictures by frame number."""
    pictures: dict[int, np.ndarray] = {}
    with open_media(mp4, name="clip") as container:
        if not container.streams.video:
            raise ValueError("clip: damaged, there are no pictures in it")
        stream = container.streams.video[0]
        stream.thread_count = 1
        _check(wanted, stream.frames)
        for key, run in _runs(wanted, stream):
            pictures |= _decode_run(container, stream, key, run)
    return pictures


def _frame_ticks(stream: VideoStream) -> Fraction:
    """Ticks of the stream's clock a frame lasts."""
    return 1 / (Fraction(stream.average_rate or FRAME_RATE) * Fraction(stream.time_base or 1))


def _runs(wanted: list[int], stream: VideoStream) -> list[tuple[int, set[int]]]:
    """Splits wanted frames into runs that each begin at a key frame: [(key frame's time in ticks, frames)].

    Neighbouring groups of pictures stay in one run: going on costs less than a seek.
    """
    times = [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]
    keys = [round(time / _frame_ticks(stream)) for time in times]
    if not keys or keys[0] > wanted[0]:
        raise ValueError(f"clip: damaged, its index has no key frame before frame {wanted[0]}")
    runs: list[tuple[int, set[int]]] = []
    last_group = -2
    for index in wanted:
        group = int(np.searchsorted(keys, index, side="right")) - 1
        if not runs or group > last_group + 1:
            runs.append((times[group], set()))
        runs[-1][1].add(index)
        last_group = group
    return runs


def _decode_run(
    container: InputContainer, stream: VideoStream, key_time: int, indices: set[int]
) -> dict[int, np.ndarray]:
    """Seeks to a run's key frame and decodes until its last frame: RGB pictures by frame number."""
    container.seek(key_time, stream=stream, backward=True, any_frame=False)
    convert, ticks, last = VideoReformatter(), _frame_ticks(stream), max(indices)
    pictures: dict[int, np.ndarray] = {}
    for frame in container.decode(stream):
        index = round((frame.pts or 0) / ticks)
        if index in indices:
            pictures[index] = _whole_pixels(frame, convert)
        if index >= last:
            break
    return pictures

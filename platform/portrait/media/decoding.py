"""Decoding a video track: every frame of it in display order, from any time on, upright and with square pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice

import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from portrait.media.container import reason_of
from portrait.media.display_order import (
    EXAMINED_PACKETS,
    counted,
    frame_rate,
    is_elementary,
    is_in_decoding_order,
    sorted_times,
)
from portrait.media.planar_frame import Converters, Orientation, PlanarFrame, square_pixels
from portrait.timing import FRAME_RATE


def video_stream(container: InputContainer, label: str) -> VideoStream:
    """The first video track that is not cover art.

    Raises:
        ValueError: the file has no video track.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError(f"{label}: has no video track")
    # One thread: data preparation runs one file per core, and errors stay with the frame that caused them.
    streams[0].thread_count = 1
    return streams[0]


def decode_frames(container: InputContainer, stream: VideoStream, label: str) -> Iterator[VideoFrame]:
    """Decodes frame by frame, in display order.

    Frames of files without times of their own get some; see `portrait.media.display_order`.

    Raises:
        ValueError: damage after the first clean frame; FFmpeg would conceal it with a smear of grey.
    """
    if is_elementary(container):
        frames = _decoded(container.demux(stream), label)
        yield from counted(frames, frame_rate(container, stream) or Fraction(FRAME_RATE))
        return
    packets = container.demux(stream)
    codec = stream.codec_context  # None without a decoder: reading the first packet reports it
    if codec is None or not codec.has_b_frames:
        yield from _decoded(packets, label)
        return
    try:
        first = list(islice(packets, EXAMINED_PACKETS))
    except av.error.FFmpegError as error:
        raise ValueError(f"{label}: damaged at 0.00 s ({reason_of(error)})") from error
    frames = _decoded(chain(first, packets), label)
    yield from sorted_times(frames) if is_in_decoding_order(first, stream) else frames


def _decoded(packets: Iterable[Packet], label: str) -> Iterator[VideoFrame]:
    at, clean = 0.0, False
    try:
        for packet in packets:
            if packet.is_corrupt:
                raise ValueError(f"{label}: damaged at {at:.2f} s (the data breaks off within a frame)")
            for frame in packet.decode():
                if not isinstance(frame, VideoFrame):
                    continue
                if frame.is_corrupt:
                    if clean:
                        raise ValueError(f"{label}: damaged at {at:.2f} s (a frame can't be decoded)")
                    continue  # a recording that begins between key frames
                clean = True
                yield frame
                at = frame.time or at
    except av.error.FFmpegError as error:
        raise ValueError(f"{label}: damaged at {at:.2f} s ({reason_of(error)})") from error


def decode_from(
    container: InputContainer, stream: VideoStream, label: str, start_s: float
) -> tuple[Iterator[VideoFrame], float]:
    """Decodes from the last key frame before a time.

    Args:
        container: the file, at its beginning.
        stream: its video track.
        label: the file's name for errors.
        start_s: seconds after the file's first frame.

    Returns:
        The frames, some of which may lie before that time, and that time on the file's own clock in seconds.
    """
    decoded = decode_frames(container, stream, label)
    first = next(decoded, None)
    if first is None:
        return iter(()), 0.0
    origin = float(first.time or 0.0) + start_s
    if not start_s or is_elementary(container):
        return chain((first,), decoded), origin
    try:
        container.seek(round(origin / (stream.time_base or 1)), stream=stream)
        decoded = decode_frames(container, stream, label)
        landed = next(decoded, None)
        if landed is not None and landed.time is not None and landed.time <= origin:
            return chain((landed,), decoded), origin
    except (av.error.FFmpegError, ValueError):
        # Not every container can be entered anywhere, and a landing may be rough: then all of it is decoded.
        pass
    container.seek(0, stream=stream)
    return decode_frames(container, stream, label), origin


class Upright:
    """Turns a track's decoded frames into upright ones, all of one size.

    Args:
        stream: the track.
        label: the file's name for errors.
    """

    def __init__(self, stream: VideoStream, label: str) -> None:
        self._aspect, self._label = stream.sample_aspect_ratio, label
        self._convert: Converters = Converters(VideoReformatter)
        self._size: tuple[int, int] | None = None
        self._rotation: float | None = None
        self._orientation = Orientation()

    def __call__(self, frame: VideoFrame) -> PlanarFrame:
        if frame.rotation != self._rotation:
            self._rotation = frame.rotation
            self._orientation = Orientation.of(frame, self._convert, self._label)
        square = square_pixels(frame, self._aspect, self._convert, self._label)
        upright = PlanarFrame(square, self._convert, self._label, self._orientation)
        size = (upright.height, upright.width)
        self._size = self._size or size
        if size != self._size:
            raise ValueError(f"{self._label}: the frame size changes from {self._size} to {size}")
        return upright

"""Times for frames of files that store none: a decoder returns such frames in display order, but without times.

AVI stores packets in decoding order and counts them; a frame inherits its packet's count, so with B-frames the times of
successive frames jump back and forth. Elementary streams (.h264, .hevc, .m4v) store nothing: their frames are counted.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from portrait.media.audio_track import MAX_CLOCK_BACK_SECONDS

EXAMINED_PACKETS = 16
"""Packets at the beginning that show whether timestamps follow the decoding order."""
_ELEMENTARY_STREAMS = frozenset(("h264", "hevc", "m4v", "mpegvideo", "obu"))
"""FFmpeg's names of formats that hold nothing but coded frames."""
_MAX_HELD = 17
"""Frames among which times are sorted. H.264 allows 16 between a frame's places in the two orders."""
_MAX_RATE = 300
"""More frames per second are a misread header: FFmpeg may report the units of a stream's clock instead."""


def is_elementary(container: InputContainer) -> bool:
    """Whether a file is an elementary stream, which has no timestamps and can't be sought in."""
    return container.format.name in _ELEMENTARY_STREAMS


def frame_rate(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Frames per second on average; None where the file doesn't say.

    An elementary stream has no times to average, and FFmpeg reports 25 for all of them: the codec's header counts.
    """
    rates = [stream.average_rate, stream.guessed_rate]
    if is_elementary(container):
        codec = stream.codec_context
        rates = [codec and codec.framerate, stream.guessed_rate, stream.base_rate, stream.average_rate]
    return next((rate for rate in rates if rate and (len(rates) == 2 or rate <= _MAX_RATE)), None)


def is_in_decoding_order(packets: Sequence[Packet], stream: VideoStream) -> bool:
    """Whether timestamps may count packets in decoding order, although the codec reorders frames.

    Display times of reordered frames differ from their decoding times by varying amounts.

    Args:
        packets: the first ones.
        stream: their track.
    """
    shifts = {p.pts - p.dts for p in packets if p.pts is not None and p.dts is not None}
    return bool(stream.codec_context.has_b_frames) and len(shifts) <= 1


def sorted_times(frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    """Distributes the frames' own times among them in ascending order. Times in order stay as they are.

    Args:
        frames: in display order.
    """
    held: deque[VideoFrame] = deque()
    stamps: list[int] = []

    def release() -> VideoFrame:
        frame = held.popleft()
        frame.pts = heapq.heappop(stamps)
        return frame

    for frame in frames:
        if frame.pts is None or _jumps_back(frame, stamps):
            while held:
                yield release()
        if frame.pts is None:
            yield frame
            continue
        held.append(frame)
        heapq.heappush(stamps, frame.pts)
        if len(held) > _MAX_HELD:
            yield release()
    while held:
        yield release()


def counted(frames: Iterator[VideoFrame], rate: Fraction) -> Iterator[VideoFrame]:
    """Gives frame i the time i/`rate` seconds and a length of 1/`rate` seconds."""
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base, frame.duration = number, 1 / rate, 1
        yield frame


def _jumps_back(frame: VideoFrame, stamps: Sequence[int]) -> bool:
    """Whether another file begins with a frame, so that its times must not be mixed with those before."""
    if not stamps or frame.pts is None or frame.time_base is None:
        return False
    return (stamps[0] - frame.pts) * frame.time_base > MAX_CLOCK_BACK_SECONDS

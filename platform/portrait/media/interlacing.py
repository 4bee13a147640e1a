"""Interlaced footage: two fields of alternate lines, taken one after the other, become whole pictures.

FFmpeg's bwdif (Bob Weaver, after the BBC's w3fdif) does it, one picture per frame, for the frames that say they are
interlaced; progressive frames are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

from portrait.media.container import reason_of


def deinterlaced(frames: Iterator[VideoFrame], label: str) -> Iterator[VideoFrame]:
    """Passes frames on, interlaced ones deinterlaced.

    Args:
        frames: in display order, with times.
        label: the file's name for errors.

    Raises:
        ValueError: frames of a format that can't be deinterlaced.
    """
    running: _Deinterlacer | None = None
    for frame in frames:
        if running is not None and not running.takes(frame):
            yield from running.finish()
            running = None
        if running is None and frame.interlaced_frame:
            running = _Deinterlacer(frame, label)
        if running is None:
            yield frame
        else:
            yield from running.push(frame)
    if running is not None:
        yield from running.finish()


class _Deinterlacer:
    """The filter for frames of one size and format. It looks one frame ahead.

    Args:
        first: the first frame; it is not taken yet.
        label: the file's name for errors.
    """

    def __init__(self, first: VideoFrame, label: str) -> None:
        self._kind, self._label = _kind(first), label
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=first.time_base
        )
        fields = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(fields)
        fields.link_to(sink)
        self._graph.configure()

    def takes(self, frame: VideoFrame) -> bool:
        return _kind(frame) == self._kind

    def push(self, frame: VideoFrame | None) -> Iterator[VideoFrame]:
        try:
            self._graph.vpush(frame)
            while True:
                yield self._graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        except av.error.FFmpegError as error:
            raise ValueError(f"{self._label}: can't be deinterlaced ({reason_of(error)})") from error

    def finish(self) -> Iterator[VideoFrame]:
        return self.push(None)


def _kind(frame: VideoFrame) -> tuple:
    return frame.width, frame.height, frame.format.name, frame.time_base

"""Any frame rate to a constant one: how many output frames show each source frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from portrait.media.audio_track import MAX_CLOCK_BACK_SECONDS

_MAX_GAP_SECONDS = 600.0
"""Screen recordings store a picture that stands once; a longer gap is a wrong timestamp."""


def at_constant_rate(
    frames: Iterator[VideoFrame], start: float, stream: VideoStream, fps: int, label: str
) -> Iterator[tuple[VideoFrame, int]]:
    """Pairs each source frame with the number of output frames that show it.

    Output frame i shows the source frame nearest to i/fps; a source frame that stands for long is held until half an
    output frame before the next.

    Args:
        frames: in display order.
        start: time of output frame 0 on the frames' clock, in seconds.
        stream: their track, for the rate where timestamps are missing.
        fps: output frames per second.
        label: the file's name for errors.

    Raises:
        ValueError: a gap between two frames, or timestamps that go back.
    """
    half, epsilon = 0.5 / fps, 1e-6
    period = _period(stream, fps)
    previous: VideoFrame | None = None
    previous_time, emitted = 0.0, 0
    for frame in frames:
        if previous is None:
            previous = frame
            previous_time = 0.0 if frame.time is None else float(frame.time) - start
            continue
        time = (float(frame.time) - start) if frame.time is not None else previous_time + period
        if time < previous_time - MAX_CLOCK_BACK_SECONDS:
            raise ValueError(
                f"{label}: damaged at {previous_time:.2f} s, the clock goes back by {previous_time - time:.0f} s "
                "(files joined end to end? remux them)"
            )
        if time <= previous_time:
            continue  # a broken or repeated timestamp: the frame has no time of its own
        if time - previous_time > _MAX_GAP_SECONDS:
            raise ValueError(
                f"{label}: damaged at {previous_time:.2f} s, no frame follows for {time - previous_time:.0f} s"
            )
        # The next frame takes over where it is nearer, and never earlier than half an output frame before its time.
        change = max(time - half, (previous_time + time) / 2)
        copies = 0
        while (emitted + copies) / fps < change + (epsilon if change > time - half + epsilon else -epsilon):
            copies += 1
        yield previous, copies
        emitted += copies
        previous, previous_time = frame, time
    if previous is not None:
        # A file's only frame is shown once, however short it is; one that ends before the beginning is not shown.
        end = previous_time + _duration(previous, period)
        yield previous, max(round(end * fps), 1 if previous_time >= 0 else 0) - emitted


def _period(stream: VideoStream, fps: int) -> float:
    """Seconds that a frame lasts on average."""
    period = 1.0 / float(stream.average_rate or stream.guessed_rate or fps)
    # With a wrong time table, the last frame must not stand for hours.
    return 1.0 / fps if period > 1.0 else period


def _duration(frame: VideoFrame, period: float) -> float:
    """Seconds that the last frame lasts."""
    base = Fraction(frame.time_base) if frame.time_base else Fraction(0)
    seconds = float(frame.duration * base) if frame.duration else period
    return seconds if 0 < seconds <= 1.0 else period

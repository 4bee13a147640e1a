"""Video in: any file becomes 25 frames/s RGB and 16 kHz mono sound on one clock, the clock of the pictures.

Time 0 is when the first picture is shown. Output frame i shows the source picture nearest to i/25 s, and audio samples
640·i … 640·i + 639 are heard while it is shown, whatever the source's frame rate, start times and priming were.
Letters: `T` frames, `H W`, `S` samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from portrait.media.audio import MAX_CLOCK_BACK_SECONDS, TrackPiece, at_sample_rate, iter_track
from portrait.media.container import (
    MediaSource,
    is_cut_off,
    label_of,
    open_media,
    promised_seconds,
    reason_of,
)
from portrait.media.mp4 import encode_video, write_mp4
from portrait.media.picture import Converters, Picture, square_pixels
from portrait.media.random_access import decode_window
from portrait.timing import FRAME_RATE, SAMPLE_RATE

__all__ = [
    "Clip",
    "VideoInfo",
    "decode_window",
    "encode_video",
    "iter_frames",
    "iter_pictures",
    "probe",
    "read_soundtrack",
    "read_video",
    "write_mp4",
]

_MAX_GAP_SECONDS = 10.0
_MAX_OFFSET_SECONDS = 60.0
"""Sound and pictures that begin further apart do not belong together, whatever the file says."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file says of itself, and what its first picture shows."""

    width: int
    """Width in pixels of the upright picture (rotation and pixel shape applied)."""
    height: int
    """Height in pixels of the upright picture."""
    fps: float
    """Average frames per second of the file."""
    num_frames: int
    """Frames by the header, or estimated from the duration where it has no count; not to be relied on."""
    duration_s: float
    """Length of the pictures in seconds by the header."""
    has_audio: bool
    """Whether there is a sound track."""
    video_start_s: float
    """When the first picture is shown, on the file's own clock."""
    audio_start_s: float
    """When the sound begins, on the file's own clock; 0 without sound."""
    rotation: int
    """Degrees counterclockwise by which the stored picture is turned for display."""
    codec: str
    """FFmpeg's name of the video codec."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Decoded video with its sound on the same clock."""

    frames: np.ndarray
    """uint8 RGB [T, H, W, 3]."""
    audio: np.ndarray | None
    """float32 [640·T], 16 kHz mono in [-1, 1]; None where the file has no sound track."""


def probe(source: MediaSource, *, name: str | None = None) -> VideoInfo:
    """Reads a file's header and first picture.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, or no picture can be decoded.
    """
    label = label_of(source, name)
    with open_media(source, name=name) as container:
        stream = _video_stream(container, label)
        first = next(_decoded(container, stream, label), None)
        if first is None:
            raise ValueError(f"{label}: no picture could be decoded")
        picture = _Upright(stream, label)(first)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        duration = _header_seconds(container, stream) or 0.0
        has_audio = bool(container.streams.audio)
        audio_start = container.streams.audio[0].start_time if has_audio else None
        audio_base = container.streams.audio[0].time_base if has_audio else None
        return VideoInfo(
            width=picture.width,
            height=picture.height,
            fps=fps,
            num_frames=stream.frames or round(duration * fps),
            duration_s=duration,
            has_audio=has_audio,
            video_start_s=float(first.time or 0.0),
            audio_start_s=float(audio_start * audio_base) if audio_start and audio_base else 0.0,
            rotation=round(first.rotation),
            codec=stream.codec_context.name,
        )


def read_video(
    source: MediaSource, *, fps: int = FRAME_RATE, max_seconds: float | None = None, name: str | None = None
) -> Clip:
    """Reads a whole video at a constant frame rate with its sound. For large or long files, see `iter_frames`.

    Args:
        source: path or content.
        fps: frames per second wanted.
        max_seconds: stop after this much.
        name: what to call the file in errors; by default its path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, damaged, or without a single picture.
    """
    frames = np.stack(list(iter_frames(source, fps, max_seconds=max_seconds, name=name)))
    audio = read_soundtrack(source, num_samples=len(frames) * SAMPLE_RATE // fps, name=name)
    return Clip(frames=frames, audio=audio)


def read_soundtrack(
    source: MediaSource,
    *,
    num_samples: int | None = None,
    max_samples: int | None = None,
    name: str | None = None,
) -> np.ndarray | None:
    """Reads a video's sound on the clock of its pictures: sample 0 is heard when the first picture is shown.

    Sound from before that is cut; where it begins later, silence fills in.

    Args:
        source: path or content.
        num_samples: cut or pad with silence to this many; None keeps the track's own length.
        max_samples: cut to this many, and never pad.
        name: what to call the file in errors.

    Returns:
        float32 [S], 16 kHz mono in [-1, 1], or None without a sound track.
    """
    label = label_of(source, name)
    with open_media(source, name=name) as container:
        if not container.streams.audio:
            return None
        first = next(_decoded(container, _video_stream(container, label), label), None)
        if first is None:
            raise ValueError(f"{label}: no picture could be decoded")
        video_start = float(first.time or 0.0)
    most = num_samples if max_samples is None else max_samples
    until = None if most is None else video_start + most / SAMPLE_RATE + 0.5
    with open_media(source, name=name) as container:
        track = iter_track(container, label=label, until_s=until)
        audio = at_sample_rate(_from_time(track, video_start, label))
    if num_samples is None:
        return audio[:most]
    return np.pad(audio[:num_samples], (0, max(0, num_samples - audio.size)))


def _from_time(track: Iterator[TrackPiece], begin_s: float, label: str) -> Iterator[TrackPiece]:
    """A track from a time on; silence where it begins later.

    Raises:
        ValueError: it is empty, or begins far from that time.
    """
    first = next((piece for piece in track if piece[0].size), None)
    if first is None:
        raise ValueError(f"{label}: the sound track is empty")
    _, rate, start_s = first
    if abs(start_s - begin_s) > _MAX_OFFSET_SECONDS:
        raise ValueError(
            f"{label}: damaged, the sound begins at {start_s:.0f} s and the pictures at {begin_s:.0f} s"
        )
    offset = round((start_s - begin_s) * rate)
    yield np.zeros(max(offset, 0), np.float32), rate, begin_s
    skip = max(-offset, 0)
    for samples, _, _ in chain((first,), track):
        yield samples[skip:], rate, begin_s
        skip -= min(skip, samples.size)


def iter_frames(
    source: MediaSource,
    fps: int = FRAME_RATE,
    *,
    start_s: float = 0.0,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Iterator[np.ndarray]:
    """Yields upright RGB pictures uint8 [H, W, 3] at a constant rate, in constant memory.

    Arguments and errors are those of `iter_pictures`. The arrays must not be written to: repeats share memory.
    """
    shown, pixels = None, np.empty(0, np.uint8)
    for picture in iter_pictures(source, fps, start_s=start_s, max_seconds=max_seconds, name=name):
        if picture is not shown:
            shown, pixels = picture, picture.rgb()
        yield pixels


def iter_pictures(
    source: MediaSource,
    fps: int = FRAME_RATE,
    *,
    start_s: float = 0.0,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Iterator[Picture]:
    """Yields upright pictures at a constant rate, of which nothing is converted before it is asked for.

    A source picture is repeated (the same object) or left out so that each output shows the one nearest in time; a
    picture that stands for long is held until half an output frame before the next.

    Args:
        source: path or content.
        fps: frames per second wanted.
        start_s: begin here, in seconds after the file's first picture; of what lies before, only what follows the last
            key frame is decoded.
        max_seconds: stop after this much.
        name: what to call the file in errors; by default its path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, damaged, cut off, or changing its size within the file.
    """
    label = label_of(source, name)
    limit = None if max_seconds is None else max(1, round(max_seconds * fps))
    with open_media(source, name=name) as container:
        stream = _video_stream(container, label)
        upright = _Upright(stream, label)
        frame, emitted = None, 0
        decoded, origin = _decoded_from(container, stream, label, start_s)
        for frame, copies in _constant_rate(decoded, origin, stream, fps, label):
            if copies and (limit is None or emitted < limit):
                picture = upright(frame)
                for _ in range(copies if limit is None else min(copies, limit - emitted)):
                    yield picture
                    emitted += 1
            if limit is not None and emitted >= limit:
                return
        if frame is None:
            raise ValueError(f"{label}: no picture could be decoded")
        if not emitted:
            raise ValueError(f"{label}: has no picture at {start_s:.2f} s or after it")
        _check_complete(stream, start_s + emitted / fps, label)


class _Upright:
    """Turns a stream's decoded frames into pictures, all of one size."""

    def __init__(self, stream: VideoStream, label: str) -> None:
        self._aspect, self._label = stream.sample_aspect_ratio, label
        self._convert: Converters = Converters(VideoReformatter)
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame) -> Picture:
        square = square_pixels(frame, self._aspect, self._convert, self._label)
        picture = Picture(square, self._convert, self._label, turns=round(frame.rotation / 90))
        size = (picture.height, picture.width)
        self._size = self._size or size
        if size != self._size:
            raise ValueError(f"{self._label}: the picture's size changes ({self._size} to {size})")
        return picture


def _decoded_from(
    container: InputContainer, stream: VideoStream, label: str, start_s: float
) -> tuple[Iterator[VideoFrame], float]:
    """Frames from the key frame before a time on, and that time on the file's own clock."""
    decoded = _decoded(container, stream, label)
    first = next(decoded, None)
    if first is None:
        return iter(()), 0.0
    origin = float(first.time or 0.0) + start_s
    if not start_s:
        return chain((first,), decoded), origin
    try:
        container.seek(round(origin / (stream.time_base or 1)), stream=stream)
        decoded = _decoded(container, stream, label)
        landed = next(decoded, None)
        if landed is not None and landed.time is not None and landed.time <= origin:
            return chain((landed,), decoded), origin
    except (av.error.FFmpegError, ValueError):
        # Not every container can be entered anywhere, and a landing may be rough: then all of it is decoded.
        pass
    container.seek(0, stream=stream)
    return _decoded(container, stream, label), origin


def _constant_rate(
    frames: Iterator[VideoFrame], start: float, stream: VideoStream, fps: int, label: str
) -> Iterator[tuple[VideoFrame, int]]:
    """Pairs each source frame with the number of output frames that show it, the first of them at `start`."""
    half, epsilon = 0.5 / fps, 1e-6
    period = 1.0 / float(stream.average_rate or stream.guessed_rate or fps)
    if period > 1.0:  # a lying time table: a picture that has no end of its own must not stand for hours
        period = 1.0 / fps
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
            continue  # a broken or repeated timestamp: the picture has no time of its own
        if time - previous_time > _MAX_GAP_SECONDS:
            raise ValueError(
                f"{label}: damaged at {previous_time:.2f} s, no picture for {time - previous_time:.0f} s after it"
            )
        # The next picture takes over where it is nearer, and never earlier than half an output frame before its time.
        change = max(time - half, (previous_time + time) / 2)
        copies = 0
        while (emitted + copies) / fps < change + (epsilon if change > time - half + epsilon else -epsilon):
            copies += 1
        yield previous, copies
        emitted += copies
        previous, previous_time = frame, time
    if previous is not None:
        base = Fraction(previous.time_base) if previous.time_base else Fraction(0)
        last = float(previous.duration * base) if previous.duration else period
        last = last if 0 < last <= 1.0 else period
        # A file's only picture is shown once, however short it is; one that ends before the beginning is not.
        yield previous, max(round((previous_time + last) * fps), 1 if previous_time >= 0 else 0) - emitted


def _video_stream(container: InputContainer, label: str) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise ValueError(f"{label}: has no video track")
    # One thread: data preparation runs one file a core, and errors stay with the frame that caused them.
    streams[0].thread_count = 1
    return streams[0]


def _decoded(container: InputContainer, stream: VideoStream, label: str) -> Iterator[VideoFrame]:
    """Decodes frame by frame; damage after the first clean picture is an error, never a smear of grey."""
    at, clean = 0.0, False
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise ValueError(f"{label}: damaged at {at:.2f} s (the data breaks off within a frame)")
            for frame in packet.decode():
                if frame.is_corrupt:
                    if clean:
                        raise ValueError(f"{label}: damaged at {at:.2f} s (a frame can't be decoded)")
                    continue  # a recording that begins between key frames
                clean = True
                yield frame
                at = frame.time or at
    except av.error.FFmpegError as error:
        raise ValueError(f"{label}: damaged at {at:.2f} s ({reason_of(error)})") from error


def _header_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    return None


def _check_complete(stream: VideoStream, seconds: float, label: str) -> None:
    """A file that was cut off still opens where its index stands in front: compare with what the index promises."""
    promised = promised_seconds(stream)
    if promised is not None and is_cut_off(seconds, promised):
        raise ValueError(f"{label}: cut off at {seconds:.2f} s, its index promises {promised:.2f} s")

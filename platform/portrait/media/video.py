"""Video in: any file becomes 25 frames/s RGB and 16 kHz mono sound on one clock, the clock of the frames.

Time 0 is when the first frame is shown. Output frame i shows the source frame nearest to i/25 s, and audio samples
640·i … 640·i + 639 are heard while it is shown, whatever the source's frame rate, start times and priming were.
Letters: `T` frames, `H W`, `S` samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from portrait.media.constant_rate import at_constant_rate
from portrait.media.container import MediaSource, is_cut_off, label_of, open_media, promised_seconds
from portrait.media.decoding import Upright, decode_frames, decode_from, video_stream
from portrait.media.display_order import frame_rate
from portrait.media.hdr import ToneMapper
from portrait.media.interlacing import deinterlaced
from portrait.media.planar_frame import PlanarFrame
from portrait.media.soundtrack import read_soundtrack
from portrait.media.track_choice import choose_audio_track
from portrait.timing import FRAME_RATE, SAMPLE_RATE


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file's header says, and what its first frame shows."""

    width: int
    """Width in pixels of the upright frame (rotation and pixel shape applied)."""
    height: int
    """Height in pixels of the upright frame."""
    fps: float
    """Average frames per second of the file."""
    num_frames: int
    """Frames by the header, or an estimate from the duration if the header has no count; not reliable."""
    has_audio: bool
    """Whether there is a sound track."""
    video_start_s: float
    """When the first frame is shown, on the file's own clock."""
    audio_start_s: float
    """When the sound begins, on the file's own clock; 0 without sound."""
    codec: str
    """FFmpeg's name of the video codec."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Decoded video with its sound on the same clock."""

    frames: np.ndarray
    """uint8 RGB [T, H, W, 3]."""
    audio: np.ndarray | None
    """float32 [640·T], 16 kHz mono in [-1, 1]; None if the file has no sound track."""


def probe(source: MediaSource, *, name: str | None = None) -> VideoInfo:
    """Reads a file's header and first frame.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, or no frame can be decoded.
    """
    label = label_of(source, name)
    with open_media(source, name=name) as container:
        stream = video_stream(container, label)
        first = next(decode_frames(container, stream, label), None)
        if first is None:
            raise ValueError(f"{label}: no frame could be decoded")
        upright = Upright(stream, label)(first)
        fps = float(frame_rate(container, stream) or 0)
        duration = _header_seconds(container, stream) or 0.0
        has_audio = bool(container.streams.audio)
        audio = container.streams.audio[choose_audio_track(source, label)] if has_audio else None
        return VideoInfo(
            width=upright.width,
            height=upright.height,
            fps=fps,
            num_frames=stream.frames or round(duration * fps),
            has_audio=has_audio,
            video_start_s=float(first.time or 0.0),
            audio_start_s=_start_seconds(audio) if audio else 0.0,
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
        ValueError: not a video, damaged, or without a single frame.
    """
    frames = np.stack(list(iter_frames(source, fps, max_seconds=max_seconds, name=name)))
    audio = read_soundtrack(source, num_samples=len(frames) * SAMPLE_RATE // fps, name=name)
    return Clip(frames=frames, audio=audio)


def iter_frames(
    source: MediaSource,
    fps: int = FRAME_RATE,
    *,
    start_s: float = 0.0,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Iterator[np.ndarray]:
    """Yields upright RGB frames uint8 [H, W, 3] at a constant rate, in constant memory.

    Arguments and errors are those of `iter_planar_frames`. The arrays must not be written to: repeats share memory.
    """
    shown, rgb = None, np.empty(0, np.uint8)
    for frame in iter_planar_frames(source, fps, start_s=start_s, max_seconds=max_seconds, name=name):
        if frame is not shown:
            shown, rgb = frame, frame.rgb()
        yield rgb


def iter_planar_frames(
    source: MediaSource,
    fps: int = FRAME_RATE,
    *,
    start_s: float = 0.0,
    max_seconds: float | None = None,
    name: str | None = None,
) -> Iterator[PlanarFrame]:
    """Yields upright frames at a constant rate; none is converted to RGB before it is asked for.

    A source frame is repeated (the same object) or dropped so that each output shows the one nearest in time; a frame
    that stands for long is held until half an output frame before the next.

    Args:
        source: path or content.
        fps: frames per second wanted.
        start_s: begin here, in seconds after the file's first frame; decoding begins at the last key frame before it.
        max_seconds: stop after this much.
        name: what to call the file in errors; by default its path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, damaged, cut off, or changing its size within the file.
    """
    label = label_of(source, name)
    limit = None if max_seconds is None else max(1, round(max_seconds * fps))
    with open_media(source, name=name) as container:
        stream = video_stream(container, label)
        upright, tone_map = Upright(stream, label), ToneMapper(label)
        frame, emitted = None, 0
        decoded, origin = decode_from(container, stream, label, start_s)
        decoded = deinterlaced(decoded, label)
        for frame, copies in at_constant_rate(decoded, origin, stream, fps, label):
            if copies and (limit is None or emitted < limit):
                shown = upright(tone_map(frame))
                for _ in range(copies if limit is None else min(copies, limit - emitted)):
                    yield shown
                    emitted += 1
            if limit is not None and emitted >= limit:
                return
        if frame is None:
            raise ValueError(f"{label}: no frame could be decoded")
        if not emitted:
            raise ValueError(f"{label}: has no frame at {start_s:.2f} s or after it")
        _check_complete(stream, start_s + emitted / fps, label)


def _start_seconds(stream: AudioStream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))


def _header_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / av.time_base
    return None


def _check_complete(stream: VideoStream, seconds: float, label: str) -> None:
    """Rejects a truncated file, which still opens if its index is in front: compares it with the index's length."""
    promised = promised_seconds(stream)
    if promised is not None and is_cut_off(seconds, promised):
        raise ValueError(f"{label}: cut off at {seconds:.2f} s, its index promises {promised:.2f} s")

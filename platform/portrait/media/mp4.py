"""H.264 in MP4 as the tables keep clips: constant rate, a closed group of pictures every 16 frames, no B-frames.

Frame i then has timestamp i/fps and depends on no frame before its key frame, which makes a random window cheap to
decode (`random_access`). Letters: `T` frames, `H W`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from portrait.media.audio import Resampler
from portrait.timing import FRAME_RATE, SAMPLE_RATE

BT709 = 1
"""FFmpeg's number for ITU-R BT.709: matrix, primaries and transfer of everything written here."""
LIMITED_RANGE = 1
AAC_RATE = 48_000
_AAC_FRAME = 1_024
EXACT_RGB = int(Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND)
"""How to convert decoded frames to RGB: without these flags FFmpeg truncates, and every pass darkens by 1.3 levels."""


def yuv_frame(rgb: np.ndarray, convert: VideoReformatter) -> VideoFrame:
    """Converts RGB uint8 [H, W, 3] to a 4:2:0 frame, BT.709, limited range, tagged so that players agree."""
    frame = convert.reformat(
        VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
        format="yuv420p",
        dst_colorspace=BT709,
        dst_color_range=LIMITED_RANGE,
        interpolation="AREA",
        threads=1,
    )
    return tag_frame(frame)


def tag_frame(frame: VideoFrame) -> VideoFrame:
    """Tags a frame's primaries and transfer as BT.709 (FFmpeg's scaler sets matrix and range only); returns it."""
    frame.color_primaries = BT709
    frame.color_trc = BT709
    return frame


def tag_colours(context: av.VideoCodecContext) -> None:
    """Writes the colour space of `yuv_frame` into an encoder's headers."""
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = LIMITED_RANGE


def rgb_pixels(
    frame: VideoFrame,
    convert: VideoReformatter,
    *,
    width: int | None = None,
    height: int | None = None,
    src_colorspace: int | None = None,
    interpolation: int = EXACT_RGB,
) -> np.ndarray:
    """A decoded frame as RGB, its levels rounded.

    The conversion goes through planar RGB, the only kind for which FFmpeg has vector code with these flags. Levels are
    those of its packed RGB (where the height is odd, one in a thousand is off by one) in about half the time.

    Args:
        frame: of any pixel format and [H, W].
        convert: kept from frame to frame, so that its tables are made once.
        width: of the result in pixels; None keeps the frame's.
        height: of the result in pixels; None keeps the frame's.
        src_colorspace: FFmpeg's number of the matrix to assume; None takes the frame's.
        interpolation: FFmpeg's flags for resizing and rounding.

    Returns:
        uint8 [H, W, 3].
    """
    planar = convert.reformat(
        frame,
        width=width,
        height=height,
        format="gbrp",
        src_colorspace=src_colorspace,
        interpolation=interpolation,
        threads=1,
    )
    green, blue, red = (plane_pixels(plane) for plane in planar.planes)
    return cv2.merge([red, green, blue])


def plane_pixels(plane: VideoPlane) -> np.ndarray:
    """A plane's pixels without the padding of its lines, uint8 [h, w]; memory is shared with the frame."""
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width]


def check_frames(frames: np.ndarray, height: int, width: int) -> None:
    """Raises ValueError unless frames are uint8 [T, height, width, 3]."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (height, width, 3):
        raise ValueError(
            f"frames: expected uint8 [T, {height}, {width}, 3], found {frames.dtype} {list(frames.shape)}"
        )


def encode_video(
    frames: np.ndarray | Iterable[np.ndarray] | Iterable[VideoFrame],
    fps: int | Fraction = FRAME_RATE,
    *,
    gop: int = 16,
    crf: float = 18,
    preset: str = "fast",
) -> bytes:
    """Encodes frames as H.264 MP4 without sound.

    The same frames give the same bytes (one thread, no date in the file), so content can be hashed.

    Args:
        frames: at least one, RGB uint8 [T, H, W, 3], or an iterable of [H, W, 3] or of 4:2:0 frames as `yuv_frame`
            makes them; height and width even.
        fps: frames per second, constant.
        gop: a key frame every so many frames.
        crf: x264's constant quality, smaller is better; 18 is visually lossless.
        preset: x264's trade of size against time.

    Raises:
        ValueError: no frames, odd size, or frames of different shapes.
    """
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4", options={"fflags": "+bitexact"}) as container:
        _mux_video(container, frames, fps, gop=gop, crf=crf, preset=preset)
    return buffer.getvalue()


def write_mp4(
    path: str | Path,
    frames: np.ndarray | Iterable[np.ndarray],
    audio: np.ndarray | None = None,
    sample_rate: int = SAMPLE_RATE,
    *,
    fps: int = FRAME_RATE,
    crf: float = 18,
) -> None:
    """Writes an ordinary MP4 (H.264 and, with sound, AAC at 48 kHz) that any player opens; atomic, by a rename.

    Args:
        path: the file; an existing one is replaced.
        frames: RGB uint8 [T, H, W, 3] or an iterable of [H, W, 3].
        audio: float32 [S] mono in [-1, 1] that begins with the first frame, or None.
        sample_rate: of `audio`, in Hz.
        fps: frames per second.
        crf: x264's constant quality.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with av.open(
            f"file:{temporary}", mode="w", format="mp4", options={"movflags": "faststart"}
        ) as container:
            sound = container.add_stream("aac", rate=AAC_RATE, layout="mono") if audio is not None else None
            track = (
                None if sound is None or audio is None else _SoundTrack(container, sound, audio, sample_rate)
            )
            _mux_video(container, frames, fps, gop=fps, crf=crf, preset="fast", sound=track)
            if track is not None:
                track.finish()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _mux_video(
    container: OutputContainer,
    frames: np.ndarray | Iterable[np.ndarray] | Iterable[VideoFrame],
    fps: int | Fraction,
    *,
    gop: int,
    crf: float,
    preset: str,
    sound: _SoundTrack | None = None,
) -> None:
    stream: VideoStream | None = None
    convert = VideoReformatter()
    for index, given in enumerate(frames):
        made = isinstance(given, VideoFrame)
        size = (given.height, given.width) if made else given.shape[:2]
        if stream is None:
            stream = _x264_stream(container, size, fps, gop=gop, crf=crf, preset=preset)
        if not made:
            check_frames(given[None], stream.height, stream.width)
        elif size != (stream.height, stream.width):
            raise ValueError(f"frames: expected {stream.height}×{stream.width}, found {size[0]}×{size[1]}")
        frame = given if made else yuv_frame(given, convert)
        frame.pts, frame.time_base = index, 1 / Fraction(fps)
        container.mux(stream.encode(frame))
        if sound is not None:
            sound.mux_until((index + 1) / Fraction(fps))
    if stream is None:
        raise ValueError("frames: expected at least one, found none")
    container.mux(stream.encode(None))


class _SoundTrack:
    """Encodes sound as the pictures go in, so that both are interleaved in the file and little is kept in memory."""

    def __init__(
        self, container: OutputContainer, stream: AudioStream, audio: np.ndarray, sample_rate: int
    ) -> None:
        self._container, self._stream = container, stream
        self._audio, self._rate = np.asarray(audio, np.float32), sample_rate
        self._resampler = Resampler(sample_rate, AAC_RATE)
        self._read = self._encoded = 0
        self._waiting = np.zeros(0, np.float32)

    def mux_until(self, seconds: Fraction) -> None:
        """Writes the sound up to a time, except for less than an AAC frame."""
        self._push(min(len(self._audio), int(seconds * self._rate)))

    def finish(self) -> None:
        """Writes the rest, including sound beyond the last picture."""
        while self._read < len(self._audio):
            self._push(min(len(self._audio), self._read + self._rate))
        self._waiting = np.concatenate((self._waiting, self._resampler.finish()))
        self._encode(_AAC_FRAME)
        self._encode(1)
        self._container.mux(self._stream.encode(None))

    def _push(self, end: int) -> None:
        if end > self._read:
            converted = self._resampler.push(self._audio[self._read : end])
            self._waiting = np.concatenate((self._waiting, converted))
            self._read = end
            self._encode(_AAC_FRAME)

    def _encode(self, fewest: int) -> None:
        """Encodes frames of the waiting samples while at least `fewest` are waiting."""
        while len(self._waiting) >= fewest:
            samples, self._waiting = self._waiting[:_AAC_FRAME], self._waiting[_AAC_FRAME:]
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = AAC_RATE, self._encoded, Fraction(1, AAC_RATE)
            self._encoded += len(samples)
            self._container.mux(self._stream.encode(frame))


def _x264_stream(
    container: OutputContainer,
    size: tuple[int, ...],
    fps: int | Fraction,
    *,
    gop: int,
    crf: float,
    preset: str,
) -> VideoStream:
    height, width = size
    if height % 2 or width % 2:
        raise ValueError(f"frames: H.264 4:2:0 needs an even height and width, found {height}×{width}")
    options = {
        "crf": str(crf),
        "preset": preset,
        "bf": "0",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:threads=1",
    }
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = 1 / Fraction(fps)
    tag_colours(stream.codec_context)
    return stream

"""Tests of portrait.media.interlacing: interlaced footage becomes whole pictures, progressive footage is untouched."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from portrait.media.decoding import decode_frames, video_stream
from portrait.media.interlacing import deinterlaced
from portrait.media.video import read_video

SIZE, FRAMES = 128, 24


def _moments(count: int) -> np.ndarray:
    """A soft grey texture and a ball that moves 3 pixels a fiftieth of a second, RGB [count, SIZE, SIZE, 3]."""
    texture = np.random.default_rng(0).integers(60, 200, (SIZE // 16, SIZE // 16, 1), np.uint8)
    texture = cv2.resize(texture, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)[:, :, None].repeat(3, 2)
    moments = np.stack([texture] * count)
    for number, picture in enumerate(moments):
        cv2.circle(picture, ((20 + 3 * number) % SIZE, SIZE // 2), 40, (220, 220, 220), -1, cv2.LINE_AA)
    return moments


def _write(path: Path, pictures: np.ndarray, codec: str, *, interlaced: bool) -> Path:
    options = {"qmin": "1", "qmax": "2", "crf": "8"}
    if interlaced:
        options["x264-params"] = "bff=1"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.bit_rate = 8_000_000
        if interlaced:
            stream.codec_context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        for picture in pictures:
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", interpolation="BICUBIC")))
        container.mux(stream.encode(None))
    return path


def _psnr(shown: np.ndarray, expected: np.ndarray) -> float:
    error = np.square(shown.astype(float) - expected.astype(float)).mean()
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264", "film.mov"), ("mpeg2video", "film.mpg"), ("mpeg2video", "film.ts"), ("libx264", "film.avi")],
)
def test_interlaced_footage_has_no_combs(tmp_path: Path, codec: str, name: str) -> None:
    moments = _moments(2 * FRAMES)
    woven = moments[::2].copy()
    woven[:, ::2] = moments[1::2, ::2]  # the lower field comes first: PyAV can't mark a frame otherwise
    truth = read_video(_write(tmp_path / f"whole {name}", moments[::2], codec, interlaced=False)).frames
    path = _write(tmp_path / name, woven, codec, interlaced=True)
    shown = read_video(path).frames
    assert len(shown) == len(truth) == FRAMES
    combs = read_video(_write(tmp_path / f"combed {name}", woven, codec, interlaced=False)).frames
    combed = _psnr(combs, truth)
    assert _psnr(shown, truth) > combed + 6
    with av.open(str(path)) as container:
        stream = video_stream(container, name)
        frames = list(deinterlaced(decode_frames(container, stream, name), name))
        assert [round(float((frame.time or 0) - (frames[0].time or 0)) * 25) for frame in frames] == list(
            range(FRAMES)
        )
        assert not any(frame.interlaced_frame for frame in frames)


def test_progressive_frames_are_passed_on_as_they_are(tmp_path: Path) -> None:
    path = _write(tmp_path / "film.mp4", _moments(FRAMES), "libx264", interlaced=False)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    passed = list(deinterlaced(iter(frames), "film.mp4"))
    assert all(before is after for before, after in zip(frames, passed, strict=True))

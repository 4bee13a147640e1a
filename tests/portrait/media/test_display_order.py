"""Tests of portrait.media.display_order: files without times of their own show every picture once, in order."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from portrait.media.video import iter_frames, probe

PICTURES = 40
B_FRAMES = {"bf": "4", "qmin": "1", "qmax": "3", "x264-params": "b-adapt=0:b-pyramid=normal:scenecut=0"}


def _write(
    path: Path, codec: str, rate: int = 25, missing: range = range(0), muxer: str | None = None
) -> Path:
    """Pictures with a grey level each, 6 for every one, and B-frames between them; some may be missing."""
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=rate, options=B_FRAMES)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.gop_size = 20
        for number in range(PICTURES):
            if number not in missing:
                picture = np.full((64, 64, 3), 6 * number, np.uint8)
                frame = VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _shown(path: Path, start_s: float = 0.0) -> list[int]:
    return [round(float(frame.mean()) / 6) for frame in iter_frames(path, start_s=start_s)]


def _frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_shows_every_picture_once(tmp_path: Path, codec: str) -> None:
    path = _write(tmp_path / "film.avi", codec)
    assert _shown(path) == list(range(PICTURES))
    assert _shown(path, 1.0) == list(range(25, PICTURES))


def test_the_times_in_an_avi_do_jump(tmp_path: Path) -> None:
    times = _frame_times(_write(tmp_path / "film.avi", "libx264"))
    assert times != sorted(times), "FFmpeg sorts them itself now: portrait.media.display_order can go"


def test_pictures_that_an_avi_dropped_leave_the_others_at_their_times(tmp_path: Path) -> None:
    """Captured AVI files drop frames; without a gap in their place, the sound would come late after them."""
    missing = range(22, 26)
    shown = _shown(_write(tmp_path / "film.avi", "libx264", missing=missing))
    assert len(shown) == PICTURES
    assert shown[:18] == list(range(18))
    assert shown[30:] == list(range(30, PICTURES))


@pytest.mark.parametrize(
    ("codec", "name", "muxer"),
    [
        ("libx264", "film.h264", "h264"),
        ("libx265", "film.hevc", "hevc"),
        ("mpeg4", "film.m4v", "m4v"),
        ("mpeg2video", "film.m2v", "mpeg2video"),
    ],
)
@pytest.mark.parametrize("rate", [25, 50])
def test_elementary_streams(tmp_path: Path, codec: str, name: str, muxer: str, rate: int) -> None:
    path = _write(tmp_path / name, codec, rate, muxer=muxer)
    assert probe(path).fps == rate
    expected = list(range(0, PICTURES, rate // 25))
    assert _shown(path) == expected
    assert _shown(path, 0.2) == expected[5:]

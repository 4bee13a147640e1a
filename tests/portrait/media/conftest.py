"""Test films made with FFmpeg's own muxers at any rate and start: a flash and a click at the same known times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

FlashFilm = Callable[..., Path]


@pytest.fixture
def flash_film(tmp_path: Path) -> FlashFilm:
    """`flash_film(times, events, …)` writes pictures at `times`, a flash and a click at each of `events` (seconds)."""

    def write(
        times: Sequence[Fraction],
        events: Sequence[float],
        *,
        name: str = "film.mp4",
        rate: int = 48_000,
        audio_start: float = 0.0,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        size: tuple[int, int] = (64, 64),
    ) -> Path:
        path = tmp_path / name
        end = float(times[-1]) + 0.2
        # MP4 keeps a track's start in the movie's time scale: milliseconds by default, here the sound's samples.
        options = {"movie_timescale": str(rate)} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            video = cast("VideoStream", container.add_stream(codec, rate=25))
            video.width, video.height, video.pix_fmt = size[1], size[0], pixels
            video.codec_context.time_base = Fraction(1, 90_000)
            audio = container.add_stream("aac", rate=rate, layout="stereo")
            samples = np.zeros(round((end - audio_start) * rate), np.float32)
            for event in events:
                samples[round((event - audio_start) * rate)] = 0.9
            for time in times:
                # The first picture at or after the event is the bright one, and stays for 80 ms.
                bright = any(0 <= float(time) - event < 0.08 for event in events)
                picture = np.full((*size, 3), 255 if bright else 0, np.uint8)
                frame = VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            for begin in range(0, len(samples) - 1023, 1024):
                frame = AudioFrame.from_ndarray(
                    np.stack([samples[begin : begin + 1024]] * 2), format="fltp", layout="stereo"
                )
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = begin + round(audio_start * rate)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
        return path

    return write

"""Small footage with faces, rendered once a session, and a writer of films of any kind."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from portrait.synthetic import write_dataset

PICTURE_CLOCK = 90_000
"""Ticks a second of a film's pictures: a multiple of every usual frame rate, 29.97 among them."""


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five videos of 1.4 s, of five people."""
    return write_dataset(tmp_path_factory.mktemp("heads"), 5, 1, 1.4, 192, progress=False)


@pytest.fixture
def footage(heads: list[Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the first videos, `ann.mp4`, `bob.mp4`, …"""

    def make(people: int = 3) -> Path:
        folder = tmp_path / "footage"
        folder.mkdir(exist_ok=True)
        for name, video in zip(("ann", "bob", "cem", "dora", "eve")[:people], heads, strict=False):
            shutil.copy(video, folder / f"{name}.mp4")
        return folder

    return make


FilmWriter = Callable[..., Path]


@pytest.fixture(scope="session")
def write_film() -> FilmWriter:
    """`write_film(path, pictures, sound, rate, …)` writes a film by FFmpeg's own muxers, as foreign footage comes."""
    return _write_film


def _write_film(
    path: Path,
    pictures: Iterable[tuple[Fraction, np.ndarray]],
    sound: np.ndarray | None,
    rate: int,
    *,
    sound_start: Fraction = Fraction(0),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound_codec: str = "aac",
    layout: str = "mono",
    turn: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a film.

    Args:
        path: its suffix names the container.
        pictures: (time in seconds, RGB uint8 [H, W, 3]) each.
        sound: float32 [S], alike in all channels, or [channels, S]; None for a film without sound.
        rate: of the sound, in Hz.
        sound_start: time of the first sample.
        codec: FFmpeg's name of the video encoder.
        pixels: its pixel format.
        sound_codec: FFmpeg's name of the audio encoder.
        layout: the sound's channels.
        turn: degrees by which players turn the pictures counterclockwise.
        options: of the container.
    """
    # MP4 keeps when a track starts in the movie's time scale: milliseconds by default, here the sound's samples.
    own = {"movie_timescale": str(rate)} if path.suffix in {".mp4", ".mov"} else {}
    clock = 25 if codec == "mpeg4" else PICTURE_CLOCK  # MPEG-4 part 2 keeps its clock in 16 bits
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(f"file:{path}", "w", options={**own, **(options or {})}) as container:
        video: VideoStream | None = None
        audio: AudioStream | None = None
        for time, picture in pictures:
            if video is None:
                settings = {"preset": "superfast", "crf": "18", **quiet} if "26" in codec else {}
                video = cast("VideoStream", container.add_stream(codec, rate=25, options=settings))
                video.height, video.width, video.pix_fmt = *picture.shape[:2], pixels
                video.codec_context.time_base = Fraction(1, clock)
                if turn:
                    video.set_display_rotation(turn)
                if sound is not None:
                    audio = cast("AudioStream", container.add_stream(sound_codec, rate=rate, layout=layout))
                    if sound_codec not in {"flac", "pcm_s16le"}:
                        audio.bit_rate = 128_000
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
            container.mux(video.encode(frame))
        assert video is not None
        container.mux(video.encode(None))
        if audio is not None and sound is not None:
            channels = np.broadcast_to(sound, (len(audio.layout.channels), sound.shape[-1]))
            frame = AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(sound_start * rate)
            wanted = av.AudioResampler(format=audio.format.name, layout=layout, rate=rate)
            for piece in wanted.resample(frame):
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
    return path


@pytest.fixture(scope="session")
def stream_copy() -> Callable[[Path, Path], Path]:
    """`stream_copy(source, target)` puts the packets of a film into another container."""
    return _stream_copy


def _stream_copy(source: Path, target: Path) -> Path:
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        streams = {stream.index: made.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                made.mux(packet)
    return target

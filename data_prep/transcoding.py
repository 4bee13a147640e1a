"""What FFmpeg alone needs for a file: decode, cut a square, scale it, H.264 and FLAC as the clips table keeps them.

No face is looked for and nothing is measured: the least that data preparation could cost. The `ffmpeg` program does it
where it is on PATH, else the FFmpeg inside PyAV.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import av
import av.error
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from data_prep.cut_settings import CutSettings
from portrait.storage.clips import GROUP_OF_PICTURES
from portrait.timing import FRAME_RATE, SAMPLE_RATE

PRESET = "fast"
"""x264's preset, as `portrait.media.mp4.encode_video` takes it where nothing else is said."""
X264 = f"keyint={GROUP_OF_PICTURES}:min-keyint={GROUP_OF_PICTURES}:scenecut=0:open-gop=0:threads=1"
"""What it passes on to x264."""
Transcode: TypeAlias = Callable[[str, Path], None]
"""Turns a file into `video.mp4` and `audio.flac` in a folder."""


def transcoder(settings: CutSettings, program: str | None = shutil.which("ffmpeg")) -> tuple[Transcode, str]:
    """The way to re-encode that this machine has, and what to call it.

    Args:
        settings: the crop's side and the quality.
        program: the ffmpeg program; None for PyAV.
    """
    if program is None:
        return lambda path, folder: transcode_with_pyav(path, folder, settings), "PyAV " + av.__version__
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
    version = " ".join(said.split()[:3])
    return lambda path, folder: transcode_with_program(program, path, folder, settings), version


def transcode_with_program(program: str, path: str, folder: Path, settings: CutSettings) -> None:
    """Runs ffmpeg with one thread at each place.

    Raises:
        ValueError: it failed; with its own words.
    """
    filters = ",".join(f"{name}={arguments}" for name, arguments in _filters(settings.size))
    command = [
        program,
        "-nostdin",
        "-v",
        "error",
        "-y",
        "-threads",
        "1",
        "-filter_threads",
        "1",
        "-i",
        f"file:{path}",
    ]
    command += ["-map", "0:v:0", "-vf", filters, "-c:v", "libx264", "-preset", PRESET]
    command += ["-crf", str(settings.crf), "-bf", "0", "-x264-params", X264, "-threads", "1"]
    command += [str(folder / "video.mp4"), "-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLE_RATE)]
    command += ["-sample_fmt", "s16", "-c:a", "flac", str(folder / "audio.flac")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{path}: ffmpeg failed: {' '.join(done.stderr.split())}")


def transcode_with_pyav(path: str, folder: Path, settings: CutSettings) -> None:
    """The same in this process.

    Raises:
        ValueError: the file has no pictures or no sound, or is damaged.
    """
    options = {"crf": str(settings.crf), "preset": PRESET, "bf": "0", "x264-params": X264}
    try:
        with (
            av.open(f"file:{path}") as source,
            av.open(str(folder / "video.mp4"), "w") as pictures,
            av.open(str(folder / "audio.flac"), "w") as sound,
        ):
            if not source.streams.video or not source.streams.audio:
                raise ValueError(f"{path}: expected pictures and sound")
            stream = source.streams.video[0]
            stream.thread_count = 1
            graph = _graph(stream, settings.size)
            video = pictures.add_stream("libx264", rate=FRAME_RATE, options=options)
            video.width = video.height = settings.size
            video.pix_fmt = "yuv420p"
            audio = sound.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            for frame in source.decode(stream, source.streams.audio[0]):
                if isinstance(frame, VideoFrame):
                    graph.vpush(frame)
                    _encode_ready(graph, video, pictures)
                elif isinstance(frame, AudioFrame):
                    for piece in resampler.resample(frame):
                        sound.mux(audio.encode(piece))
            graph.vpush(None)
            _encode_ready(graph, video, pictures)
            pictures.mux(video.encode(None))
            for piece in resampler.resample(None):
                sound.mux(audio.encode(piece))
            sound.mux(audio.encode(None))
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: cannot be transcoded ({error.strerror})") from error


def _filters(size: int) -> list[tuple[str, str]]:
    """(name, arguments): 25 frames/s, the square in the middle, averaged over areas as data preparation shrinks."""
    return [
        ("fps", str(FRAME_RATE)),
        ("crop", "'min(iw,ih)':'min(iw,ih)'"),
        ("scale", f"{size}:{size}:flags=area"),
        ("format", "yuv420p"),
    ]


def _graph(stream: VideoStream, size: int) -> Graph:
    """The filters, ready to be fed."""
    graph = Graph()
    graph.threads = 1
    last = graph.add_buffer(template=stream)
    for name, arguments in (*_filters(size), ("buffersink", "")):
        following = graph.add(name, arguments)
        last.link_to(following)
        last = following
    graph.configure()
    return graph


def _encode_ready(graph: Graph, video: VideoStream, pictures: OutputContainer) -> None:
    """Encodes what the filters have finished."""
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pict_type = 0
        pictures.mux(video.encode(frame))

"""Opening media files safely, with errors of one line that name the file and the reason."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import av
import av.error
from av.container import InputContainer
from av.stream import Stream

MediaSource: TypeAlias = str | Path | bytes
"""A file's path or its whole content."""

# Playlists and "concat" files may point at other files and at the network, and the image and text demuxers take nearly
# anything for a video: uploads of these kinds are refused.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,flv,asf,ogg,h264,hevc,m4v,obu,mxf,nut,"
    "wav,w64,flac,mp3,aac,ac3,aiff,au,caf,amr,ivf"
)


def label_of(source: MediaSource, name: str | None = None) -> str:
    """What errors call a source: the given name, else the path, else the size of the content."""
    return name or (f"media of {len(source)} bytes" if isinstance(source, bytes) else str(source))


@contextmanager
def open_media(source: MediaSource, *, name: str | None = None) -> Iterator[InputContainer]:
    """Opens a media file for reading.

    Raises:
        FileNotFoundError: no such file.
        ValueError: empty, or not a video or sound container that FFmpeg knows.
    """
    label = label_of(source, name)
    if not isinstance(source, bytes):
        if not Path(source).is_file():
            raise FileNotFoundError(f"{label}: no such file")
        if Path(source).stat().st_size == 0:
            raise ValueError(f"{label}: the file is empty")
    elif not source:
        raise ValueError(f"{label}: the file is empty")
    # "file:" keeps FFmpeg from reading a path such as "a:b.mp4" as a protocol's address.
    file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}"
    try:
        container = av.open(
            file, mode="r", container_options={"format_whitelist": _FORMATS}, metadata_errors="replace"
        )
    except av.error.FFmpegError as error:
        raise ValueError(f"{label}: not a readable video or sound file ({reason_of(error)})") from error
    try:
        yield container
    finally:
        container.close()


def promised_seconds(stream: Stream) -> float | None:
    """A track's length in seconds by the file's index; None if the index does not contain it.

    Matroska keeps each track's length in a tag; without one, FFmpeg reports the longest track's for all of them.
    """
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if tag is not None:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def is_cut_off(seconds: float, promised: float) -> bool:
    """Whether a track of that many seconds is shorter than its index promises, beyond an index's usual error."""
    return promised - seconds > max(0.5, 0.02 * promised)


def reason_of(error: av.error.FFmpegError) -> str:
    """FFmpeg's description of an error, without its number and file name."""
    return (error.strerror or str(error)).strip()

"""A few frames of a clip without decoding the rest of it: what training asks for thousands of times.

Clips are H.264 of constant rate with a key frame every few frames, as `mp4.encode_video` writes them. Letters: `N`
frames that are asked for, `H W`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av.error
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from portrait.media.container import open_media, reason_of
from portrait.media.mp4 import rgb_pixels
from portrait.timing import FRAME_RATE


def decode_window(mp4: bytes, indices: Sequence[int]) -> np.ndarray:
    """Decodes chosen frames of a clip; groups of pictures that hold none of them are skipped.

    Args:
        mp4: the file's content: H.264 of constant rate.
        indices: frame numbers, in any order; repeats are allowed.

    Returns:
        uint8 RGB [N, H, W, 3] in the order of `indices`.

    Raises:
        ValueError: no indices, an index outside the clip, or a damaged file.
    """
    wanted = sorted({int(index) for index in indices})
    if not wanted:
        raise ValueError("indices: expected at least one frame number, found none")
    frames: dict[int, np.ndarray] = {}
    convert = VideoReformatter()
    try:
        with open_media(mp4, name="clip") as container:
            if not container.streams.video:
                raise ValueError("clip: damaged, expected a video track, found none")
            stream = container.streams.video[0]
            stream.thread_count = 1
            if wanted[0] < 0 or wanted[-1] >= stream.frames:
                raise ValueError(
                    f"indices: expected 0 … {stream.frames - 1}, found {wanted[0]} … {wanted[-1]}"
                )
            for key_time, group in _groups(wanted, stream).items():
                frames |= _decode_group(container, stream, key_time, group, convert)
    except av.error.FFmpegError as error:
        raise ValueError(f"clip: damaged ({reason_of(error)})") from error
    missing = [index for index in wanted if index not in frames]
    if missing:
        raise ValueError(f"clip: damaged, frames {missing} can't be decoded")
    return np.stack([frames[int(index)] for index in indices])


def _frame_ticks(stream: VideoStream) -> Fraction:
    """Ticks of the stream's clock that a frame lasts."""
    return 1 / (Fraction(stream.average_rate or FRAME_RATE) * Fraction(stream.time_base or 1))


def _groups(wanted: list[int], stream: VideoStream) -> dict[int, set[int]]:
    """The wanted frames by their group of pictures: {time of its key frame in ticks: frame numbers}."""
    times = [entry.timestamp for entry in stream.index_entries if entry.is_keyframe]
    keys = [round(time / _frame_ticks(stream)) for time in times]
    if not keys or keys[0] > wanted[0]:
        raise ValueError(f"clip: damaged, its index has no key frame before frame {wanted[0]}")
    groups: dict[int, set[int]] = {}
    for index, group in zip(wanted, np.searchsorted(keys, wanted, side="right") - 1, strict=True):
        groups.setdefault(times[group], set()).add(index)
    return groups


def _decode_group(
    container: InputContainer,
    stream: VideoStream,
    key_time: int,
    indices: set[int],
    convert: VideoReformatter,
) -> dict[int, np.ndarray]:
    """Decodes from a key frame to the last frame wanted: RGB uint8 [H, W, 3] by frame number."""
    container.seek(key_time, stream=stream, backward=True, any_frame=False)
    ticks, last = _frame_ticks(stream), max(indices)
    frames: dict[int, np.ndarray] = {}
    for frame in container.decode(stream):
        index = round((frame.pts or 0) / ticks)
        if index in indices:
            if (
                frame.is_corrupt
            ):  # FFmpeg conceals what it can't decode and flags it; a smear must not be trained on
                raise ValueError(f"clip: damaged, frame {index} can't be decoded completely")
            frames[index] = rgb_pixels(frame, convert)
        if index >= last:
            break
    return frames

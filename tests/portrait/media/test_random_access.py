"""Tests of portrait.media.random_access: windows are exact, decode little, and refuse damage."""

from __future__ import annotations

import io
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from portrait.media.container import open_media
from portrait.media.mp4 import encode_video
from portrait.media.random_access import decode_window
from portrait.media.video import read_video


@pytest.fixture(scope="module")
def clip() -> bytes:
    """53 smooth frames that all differ, 80×64."""
    small = np.random.default_rng(0).integers(0, 255, (53, 8, 10, 3), np.uint8)
    return encode_video([cv2.resize(picture, (80, 64), interpolation=cv2.INTER_CUBIC) for picture in small])


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """70 smooth frames that all differ."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (70, 8, 6, 3), np.uint8)
    return np.stack([cv2.resize(picture, (48, 64), interpolation=cv2.INTER_CUBIC) for picture in small])


@pytest.mark.parametrize("indices", [[0], [69], [15, 16], [40, 3, 3, 69, 17], list(range(20, 40)), range(70)])
def test_a_window_is_exactly_the_frames_asked_for(frames: np.ndarray, indices: list[int]) -> None:
    data = encode_video(frames)
    whole = read_video(data).frames
    np.testing.assert_array_equal(decode_window(data, indices), whole[list(indices)])


def test_a_window_does_not_decode_other_groups(frames: np.ndarray) -> None:
    """Destroys the data of the first groups: a window behind them must not notice."""
    data = bytearray(encode_video(frames))
    expected = decode_window(bytes(data), [50, 60])
    with open_media(bytes(data)) as container:
        places = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]
    for position, size in places[:48]:
        data[position : position + size] = bytes(size)
    np.testing.assert_array_equal(decode_window(bytes(data), [50, 60]), expected)


@pytest.mark.parametrize("indices", [[], [-1], [70]])
def test_indices_outside_are_named(frames: np.ndarray, indices: list[int]) -> None:
    with pytest.raises(ValueError, match="indices: expected"):
        decode_window(encode_video(frames), indices)


def _muxed(path: Path, *, reordered: bool = False, sound: bool = False, in_front: bool = False) -> bytes:
    options = {"movflags": "faststart"} if in_front else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "2" if reordered else "0"})
        stream.width = stream.height = 64
        track = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for i in range(30):
            picture = np.roll(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)), 2 * i, axis=1)
            container.mux(stream.encode(VideoFrame.from_ndarray(np.dstack([picture] * 3), format="rgb24")))
        container.mux(stream.encode(None))
        if track is not None:
            silence = AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16_000
            container.mux(track.encode(silence))
            container.mux(track.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("form", ["reordered", "sound", "in_front"])
def test_other_forms_of_mp4_are_read_as_well(tmp_path: Path, form: str) -> None:
    data = _muxed(tmp_path / "other.mp4", **{form: True})
    np.testing.assert_array_equal(decode_window(data, [3, 20]), read_video(data).frames[[3, 20]])


def test_random_windows_are_those_of_the_whole_clip(clip: bytes) -> None:
    rng = np.random.default_rng(1)
    whole = read_video(clip).frames
    for _ in range(20):
        window = rng.choice(53, size=7, replace=False).tolist()
        np.testing.assert_array_equal(decode_window(clip, window), whole[window])


def test_damage_is_a_value_error_or_seen_in_the_pictures_alone(clip: bytes) -> None:
    rng = np.random.default_rng(2)
    refused = 0
    index = len(clip) - clip.rindex(b"moov")
    for trial in range(200):
        data = bytearray(clip)
        if trial % 4 == 0:
            data = data[: rng.integers(1, len(data))]
        else:  # every other time in the index, which is a small part of the file
            last = index if trial % 2 else len(data)
            for place in rng.integers(0, last, size=rng.integers(1, 20)):
                data[-1 - place] = rng.integers(256)
        try:
            pictures = decode_window(bytes(data), [0, 20, 52])
        except ValueError:
            refused += 1
        else:
            assert pictures.dtype == np.uint8
            assert len(pictures) == 3
    assert refused > 50


def test_what_is_no_clip_is_refused(clip: bytes) -> None:
    for data in (clip[:1500], clip[: clip.index(b"moov") - 4], b"", b"\x00\x00\x00\x08moov"):
        with pytest.raises(ValueError, match=r"clip: (not a readable|the file is empty|damaged)"):
            decode_window(data, [0])


def _flagged(mp4: bytes) -> bool:
    """Whether FFmpeg says of a frame that it had to guess a part of it, or decodes fewer than there are."""
    try:
        with av.open(io.BytesIO(mp4)) as container:
            frames = list(container.decode(video=0))
    except av.error.FFmpegError:
        return True
    return len(frames) < 16 or any(frame.is_corrupt for frame in frames)


def test_what_ffmpeg_had_to_guess_is_refused() -> None:
    """It conceals what it can't decode, and says so: a smear must not be trained on."""
    rng = np.random.default_rng(3)
    clip = encode_video(rng.integers(0, 255, (16, 64, 80, 3), np.uint8))
    refused = 0
    with open_media(clip) as container:
        packets = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    for _ in range(60):
        damaged = bytearray(clip)
        offset, size = packets[int(rng.integers(16))]
        place = offset + int(rng.integers(60, size))
        damaged[place] ^= 1 << int(rng.integers(8))
        if _flagged(bytes(damaged)):
            refused += 1
            with pytest.raises(ValueError, match="clip: damaged"):
                decode_window(bytes(damaged), range(16))
    assert refused > 20

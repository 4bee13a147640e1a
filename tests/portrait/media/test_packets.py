"""The packet table against FFmpeg's own demuxer, and windows decoded with and without it."""

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

from portrait.media import random_access
from portrait.media.container import open_media
from portrait.media.mp4 import encode_video
from portrait.media.packets import PacketTable, packet_table
from portrait.media.random_access import decode_window
from portrait.media.video import read_video


@pytest.fixture(scope="module")
def clip() -> bytes:
    """53 smooth frames that all differ, 80×64."""
    small = np.random.default_rng(0).integers(0, 255, (53, 8, 10, 3), np.uint8)
    return encode_video([cv2.resize(picture, (80, 64), interpolation=cv2.INTER_CUBIC) for picture in small])


def _table(mp4: bytes) -> PacketTable:
    table = packet_table(mp4)
    assert table is not None
    return table


@pytest.mark.parametrize("count", [1, 16, 17, 53])
@pytest.mark.parametrize("size", [(64, 80), (32, 32), (128, 130)])
def test_packets_are_those_that_ffmpeg_finds(count: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(count)
    data = encode_video(rng.integers(0, 255, (count, *size, 3), np.uint8))
    with open_media(data) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        header = container.streams.video[0].codec_context.extradata
    table = _table(data)
    assert len(table) == count
    assert table.header == header
    assert table.offsets.tolist() == [packet.pos for packet in packets]
    assert table.sizes.tolist() == [packet.size for packet in packets]
    assert table.keys.tolist() == [i for i, packet in enumerate(packets) if packet.is_keyframe]


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


@pytest.mark.parametrize("form", ["reordered", "sound"])
def test_files_of_another_form_are_left_to_the_demuxer(tmp_path: Path, form: str) -> None:
    data = _muxed(tmp_path / "other.mp4", **{form: True})
    assert packet_table(data) is None
    np.testing.assert_array_equal(decode_window(data, [3, 20]), read_video(data).frames[[3, 20]])


def test_an_index_in_front_is_read_as_well(tmp_path: Path) -> None:
    data = _muxed(tmp_path / "front.mp4", in_front=True)
    assert data.index(b"moov") < data.index(b"mdat")
    assert len(_table(data)) == 30
    np.testing.assert_array_equal(decode_window(data, [3, 20]), read_video(data).frames[[3, 20]])


def test_both_ways_decode_the_same(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    windows = [sorted(rng.choice(53, size=7, replace=False).tolist()) for _ in range(20)]
    by_packets = [decode_window(clip, window) for window in windows]
    monkeypatch.setattr(random_access, "packet_table", lambda _: None)
    for window, pictures in zip(windows, by_packets, strict=True):
        np.testing.assert_array_equal(decode_window(clip, window), pictures)


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


def test_a_header_that_promises_more_than_there_is(clip: bytes) -> None:
    assert packet_table(clip[: clip.index(b"moov") - 4]) is None
    assert packet_table(b"") is None
    assert packet_table(b"\x00\x00\x00\x08moov") is None


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
    table, refused = _table(clip), 0
    for _ in range(60):
        damaged = bytearray(clip)
        packet = int(rng.integers(16))
        place = int(table.offsets[packet]) + int(rng.integers(60, int(table.sizes[packet])))
        damaged[place] ^= 1 << int(rng.integers(8))
        if _flagged(bytes(damaged)):
            refused += 1
            with pytest.raises(ValueError, match="clip: damaged"):
                decode_window(bytes(damaged), range(16))
    assert refused > 20

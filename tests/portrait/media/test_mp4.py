"""Tests of portrait.media.mp4: short groups of pictures, the same bytes, ordinary files."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from portrait.media.container import open_media
from portrait.media.mp4 import EXACT_RGB, encode_video, rgb_pixels, write_mp4
from portrait.media.tracks import read_tracks
from portrait.media.video import read_video


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """70 smooth frames that all differ."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (70, 8, 6, 3), np.uint8)
    return np.stack([cv2.resize(picture, (48, 64), interpolation=cv2.INTER_CUBIC) for picture in small])


def test_key_frames_every_gop_and_no_reordering(frames: np.ndarray) -> None:
    with open_media(encode_video(frames)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert [i for i, p in enumerate(packets) if p.is_keyframe] == [0, 16, 32, 48, 64]
    assert all(p.pts == p.dts for p in packets)
    assert len(packets) == len(frames)


def test_the_same_pictures_give_the_same_bytes(frames: np.ndarray) -> None:
    assert encode_video(frames) == encode_video(iter(frames))


def test_quality_is_high(frames: np.ndarray) -> None:
    error = read_video(encode_video(frames)).frames.astype(float) - frames
    assert 10 * np.log10(255**2 / (error**2).mean()) > 30


def test_odd_sizes_and_no_frames_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="even height and width, found 63×48"):
        encode_video(frames[:, :63])
    with pytest.raises(ValueError, match="at least one"):
        encode_video([])


@pytest.mark.parametrize("seconds", [1.0, 2.33])
def test_ordinary_file_has_both_tracks_in_time(frames: np.ndarray, tmp_path: Path, seconds: float) -> None:
    count = round(seconds * 25)
    rng = np.random.default_rng(1)
    audio = np.convolve(rng.normal(size=count * 640), np.ones(8) / 8, "same").astype(np.float32) * 0.2
    write_mp4(tmp_path / "a.mp4", frames[:count], audio)
    assert read_tracks(tmp_path / "a.mp4").mismatches(count / 25) == []
    heard = read_video(tmp_path / "a.mp4").audio
    assert heard is not None
    assert np.corrcoef(heard, audio)[0, 1] > 0.95, "sound out of place or spoilt"


def test_sound_lies_beside_its_pictures_and_the_index_in_front(frames: np.ndarray, tmp_path: Path) -> None:
    """A player over the network begins at once, and fetches a second of sound with a second of pictures."""
    path, seconds = tmp_path / "long.mp4", 90
    rng = np.random.default_rng(1)
    audio = rng.normal(size=seconds * 16_000).astype(np.float32) * 0.1
    write_mp4(path, (frames[i % 70] for i in range(25 * seconds)), audio)
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(path) as container:
        packets = [packet for packet in container.demux() if packet.size]
        times = {
            kind: [(p.pos, float((p.pts or 0) * p.time_base)) for p in packets if p.stream.type == kind]
            for kind in ("audio", "video")
        }
    latest = {"audio": 0.0, "video": 0.0}
    for _, time, kind in sorted((pos, time, kind) for kind, all_of in times.items() for pos, time in all_of):
        latest[kind] = time
        assert abs(latest["audio"] - latest["video"]) < 1
    assert latest["audio"] == pytest.approx(seconds, abs=0.1)


def test_sound_longer_than_the_pictures_is_kept(frames: np.ndarray, tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames[:10], np.zeros(16_000 * 3 + 5, np.float32))
    with av.open(tmp_path / "a.mp4") as container:
        stream = container.streams.audio[0]
        assert stream.duration is not None
        assert stream.time_base is not None
        assert float(stream.duration * stream.time_base) == pytest.approx(3, abs=0.05)


def test_a_failed_write_leaves_nothing(frames: np.ndarray, tmp_path: Path) -> None:
    def broken():
        yield frames[0]
        raise RuntimeError("source failed")

    with pytest.raises(RuntimeError, match="source failed"):
        write_mp4(tmp_path / "a.mp4", broken())
    assert list(tmp_path.iterdir()) == []


def test_bytes_carry_no_date(frames: np.ndarray) -> None:
    with av.open(__import__("io").BytesIO(encode_video(frames[:2]))) as container:
        assert "creation_time" not in container.metadata


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "gray", "rgb24", "bgra"]
)
@pytest.mark.parametrize("how", [{}, {"width": 91}, {"src_colorspace": 1}])
def test_levels_are_those_of_packed_rgb(pixels: str, how: dict[str, int]) -> None:
    """FFmpeg's packed RGB with the same flags is what planes make faster; the same for even sizes."""
    picture = np.random.default_rng(3).integers(0, 256, (50, 78, 3), np.uint8)
    frame = VideoReformatter().reformat(VideoFrame.from_ndarray(picture, format="rgb24"), format=pixels)
    packed = VideoReformatter().reformat(frame, format="rgb24", interpolation=EXACT_RGB, threads=1, **how)
    np.testing.assert_array_equal(rgb_pixels(frame, VideoReformatter(), **how), packed.to_ndarray())

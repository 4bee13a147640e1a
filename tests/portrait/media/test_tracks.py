"""What a file holds must be measured right, against files whose lengths and starts are chosen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from portrait.media.mp4 import write_mp4
from portrait.media.tracks import Track, Tracks, read_tracks


def test_a_written_file_is_measured(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), dtype=np.uint8)
    audio = np.sin(np.arange(50 * 640) / 20).astype(np.float32) * 0.5
    path = tmp_path / "clip.mp4"
    write_mp4(path, frames, audio)
    tracks = read_tracks(path)
    assert (tracks.video.codec, tracks.audio.codec) == ("h264", "aac")
    assert tracks.video.frames == 50
    assert tracks.fps == pytest.approx(25)
    assert tracks.video.seconds == pytest.approx(2.0)
    assert tracks.audio.seconds == pytest.approx(2.0, abs=0.04)
    assert tracks.mismatches(2.0) == []


def test_every_mismatch_is_told() -> None:
    tracks = Tracks(
        video=Track(codec="hevc", start_s=0.1, seconds=2.0, frames=60),
        audio=Track(codec="aac", start_s=0.0, seconds=3.0, frames=48_000),
        fps=30.0,
    )
    told = " | ".join(tracks.mismatches(2.0))
    for said in ("hevc", "found 30.00", "found 3.000 s of audio", "video starts at 0.100 s"):
        assert said in told
    assert "s of video" not in told


def test_a_file_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    write_mp4(path, np.zeros((10, 64, 64, 3), np.uint8), None)
    with pytest.raises(ValueError, match=r"silent\.mp4: expected a video and an audio track"):
        read_tracks(path)


def test_ffprobe_agrees(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "clip.mp4"
    write_mp4(path, frames, np.zeros(30 * 640, np.float32))
    command = [
        "ffprobe",
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,start_time,duration",
        "-of",
        "csv=p=0",
    ]
    try:
        said = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("ffprobe is not installed")
    tracks = read_tracks(path)
    measured = {"h264": tracks.video, "aac": tracks.audio}
    lines = said.stdout.split()
    assert len(lines) == 2
    for line in lines:
        codec, start, seconds = line.split(",")[:3]
        track = measured[codec]
        assert track.codec == codec
        assert track.start_s == pytest.approx(float(start), abs=0.025)
        assert track.seconds == pytest.approx(float(seconds), abs=0.04)

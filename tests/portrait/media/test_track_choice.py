"""Tests of portrait.media.track_choice: the default sound track, else one that isn't silent."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.stream import Disposition

from portrait.media.audio import read_audio
from portrait.media.track_choice import choose_audio_track

RATE = 16_000


def _write(path: Path, levels: list[float], default: int | None, begin_s: float = 0.0) -> Path:
    """Tracks of noise, each with its level, silent up to `begin_s`."""
    rng = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in levels]
        for number, stream in enumerate(streams):
            stream.disposition = Disposition.default if number == default else Disposition(0)
        for second in range(int(begin_s) + 3):
            for stream, level in zip(streams, levels, strict=True):
                noise = level * rng.normal(size=(1, RATE)) * (second >= begin_s)
                frame = AudioFrame.from_ndarray((noise * 32767).astype(np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, second * RATE, Fraction(1, RATE)
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("levels", "default", "chosen"),
    [
        ([0.1], None, 0),
        ([0.1, 0.2], None, 0),
        ([0.1, 0.2], 1, 1),
        ([0.0, 0.1], None, 1),
        ([0.0, 0.1], 1, 1),
        ([0.0, 0.1], 0, 1),
        ([0.0, 0.00005, 0.1, 0.2], None, 2),
        ([0.0, 0.0], 1, 1),
    ],
)
def test_the_default_track_or_one_with_sound(
    tmp_path: Path, levels: list[float], default: int | None, chosen: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = _write(tmp_path / "tracks.mkv", levels, default)
    assert choose_audio_track(path, "tracks.mkv") == chosen
    assert (f"tracks.mkv: {len(levels)} sound tracks, took number {chosen + 1}" in caplog.text) == (
        len(levels) > 1
    )
    level = float(np.sqrt(np.mean(read_audio(path) ** 2)))
    assert level == pytest.approx(levels[chosen], rel=0.05, abs=1e-4)


def test_someone_may_speak_late(tmp_path: Path) -> None:
    path = _write(tmp_path / "late.mkv", [0.0, 0.1], None, begin_s=20)
    assert choose_audio_track(path, "late.mkv") == 1

"""Tests of portrait.media.downmix: speech keeps its level whatever the layout, and cancels nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.audio.frame import AudioFrame

from portrait.media.audio import read_audio
from portrait.media.soundtrack import read_soundtrack

RATE = 16_000


def _voice(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Noise in syllables: loud and silent in turn."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(size=time.size)
    return (0.1 * noise * (np.sin(2 * np.pi * 2 * time) > 0)).astype(np.float32)


def _write(path: Path, channels: Sequence[np.ndarray], layout: str) -> Path:
    samples = np.ascontiguousarray(np.stack(channels), np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE, layout=layout)
        frame = AudioFrame.from_ndarray(samples.T.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("layout", ["3.0", "4.0", "5.0", "5.1", "5.1(side)", "6.1", "7.1", "7.1(wide)"])
def test_a_voice_in_the_centre_keeps_its_level(tmp_path: Path, layout: str) -> None:
    voice = _voice()
    silent = np.zeros_like(voice)
    channels = [voice if c.name == "FC" else silent for c in av.AudioLayout(layout).channels]
    np.testing.assert_allclose(
        read_audio(_write(tmp_path / "surround.wav", channels, layout)), voice, atol=1e-6
    )


@pytest.mark.parametrize("layout", ["stereo", "2.1", "quad"])
def test_without_a_centre_a_voice_in_both_front_channels_does(tmp_path: Path, layout: str) -> None:
    voice = _voice()
    silent = np.zeros_like(voice)
    channels = [voice if c.name in ("FL", "FR") else silent for c in av.AudioLayout(layout).channels]
    np.testing.assert_allclose(
        read_audio(_write(tmp_path / "surround.wav", channels, layout)), voice, atol=1e-6
    )


def test_surround_sound_is_mixed_by_bs_775(tmp_path: Path) -> None:
    channels = [_voice(seed=seed) for seed in range(6)]
    left, right, centre, _, left_surround, right_surround = channels
    expected = np.sqrt(0.5) * (left + right) + centre + 0.5 * (left_surround + right_surround)
    mixed = read_audio(_write(tmp_path / "surround.wav", channels, "5.1"))
    np.testing.assert_allclose(mixed, np.clip(expected, -1, 1), atol=1e-6)


def test_six_channels_without_names_are_taken_for_surround_sound(tmp_path: Path) -> None:
    voice = _voice()
    channels = np.zeros((6, voice.size), np.float32)
    channels[2] = voice
    soundfile.write(tmp_path / "plain.wav", channels.T, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "plain.wav"), voice, atol=1e-6)


@pytest.mark.parametrize("right", [-1.0, -0.9])
def test_channels_that_cancel_give_one_of_them(
    tmp_path: Path, right: float, caplog: pytest.LogCaptureFixture
) -> None:
    voice = _voice()
    noise = 0.003 * np.random.default_rng(9).normal(size=voice.size)
    path = _write(tmp_path / "reversed.wav", [voice, right * voice + noise], "stereo")
    np.testing.assert_allclose(read_audio(path), voice, atol=1e-6)
    assert "reversed polarity" in caplog.text


def test_a_loud_jingle_does_not_hide_that_the_rest_cancels(tmp_path: Path) -> None:
    jingle, voice = 2 * _voice(2.0, seed=1), _voice(4.0)
    path = _write(
        tmp_path / "a.wav", [np.concatenate([jingle, voice]), np.concatenate([jingle, -voice])], "stereo"
    )
    np.testing.assert_allclose(read_audio(path), np.concatenate([jingle, voice]), atol=1e-6)


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(lambda left: 0 * left, id="one side only"),
        pytest.param(lambda left: _voice(seed=5), id="independent"),
        pytest.param(lambda left: np.roll(left, 8), id="a second microphone"),
        pytest.param(lambda left: 0.5 * _voice(seed=5) - 0.5 * left, id="wide"),
        pytest.param(
            lambda left: np.where(np.arange(left.size) < 0.2 * RATE, -left, left), id="cancels for a moment"
        ),
    ],
)
def test_ordinary_stereo_is_averaged(tmp_path: Path, right, caplog: pytest.LogCaptureFixture) -> None:
    left = _voice()
    other = right(left).astype(np.float32)
    mixed = read_audio(_write(tmp_path / "stereo.wav", [left, other], "stereo"))
    expected = np.stack([left, other]).mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(mixed, np.clip(expected, -1, 1))
    assert not caplog.text


def test_a_film_whose_channels_cancel(tmp_path: Path) -> None:
    voice = _voice(2.0)
    path = tmp_path / "film.mov"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        for _ in range(50):
            picture = np.zeros((64, 64, 3), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        samples = np.stack([voice, -voice]) * 32767
        frame = AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T.reshape(1, -1).astype(np.int16)), format="s16", layout="stereo"
        )
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    sound = read_soundtrack(path)
    assert sound is not None
    np.testing.assert_allclose(sound, voice, atol=1e-4)

"""Tests of portrait.media.audio: resampling against closed forms, FLAC, and files of other rates and layouts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from portrait.media.audio import (
    Resampler,
    decode_flac,
    encode_flac,
    read_audio,
    resample,
    write_wav,
)


def _tone(rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize(
    ("from_rate", "to_rate"),
    [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (11_025, 16_000), (16_000, 48_000)],
)
def test_resampling_neither_delays_nor_changes_a_tone(from_rate: int, to_rate: int) -> None:
    converted = resample(_tone(from_rate, 1.0), from_rate, to_rate)
    expected = _tone(to_rate, 1.0)
    assert len(converted) == len(expected)
    inner = slice(to_rate // 20, -to_rate // 20)
    np.testing.assert_allclose(converted[inner], expected[inner], atol=1e-4)


@pytest.mark.parametrize("from_rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_resampling_is_the_same_however_the_sound_is_cut(from_rate: int) -> None:
    rng = np.random.default_rng(from_rate)
    sound = rng.normal(scale=0.2, size=3 * from_rate + 17).astype(np.float32)
    whole = resample(sound, from_rate, 16_000)
    for cuts in ([], [1], [0, 0, 5, 1024, 1024, 40_000], sorted(rng.integers(0, sound.size, 200))):
        resampler = Resampler(from_rate, 16_000)
        pieces = [resampler.push(piece) for piece in np.split(sound, cuts)]
        np.testing.assert_array_equal(np.concatenate([*pieces, resampler.finish()]), whole)
    assert whole.size == round(sound.size * 16_000 / from_rate)


def test_resampling_nothing_gives_nothing() -> None:
    resampler = Resampler(48_000, 16_000)
    assert resampler.push(np.zeros(0, np.float32)).size == resampler.finish().size == 0


def test_resampling_removes_what_would_fold_back() -> None:
    assert np.abs(resample(_tone(48_000, 0.5, 12_000.0), 48_000, 16_000)[800:-800]).max() < 1e-3


def test_flac_is_lossless_and_deterministic() -> None:
    audio = (np.random.default_rng(1).integers(-32768, 32768, 30_011) / 32768).astype(np.float32)
    data = encode_flac(audio)
    np.testing.assert_array_equal(decode_flac(data), audio)
    assert encode_flac(audio) == data
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")  # an independent decoder
    assert rate == 16_000
    np.testing.assert_array_equal(samples, audio)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT"])
def test_stereo_at_44_1_khz_becomes_mono_at_16_khz(tmp_path: Path, subtype: str) -> None:
    left, right = 0.5 * _tone(44_100, 1.0), 0.25 * _tone(44_100, 1.0)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([left, right], axis=1), 44_100, subtype=subtype)
    audio = read_audio(path)
    assert audio.shape == (16_000,)
    np.testing.assert_allclose(audio[800:-800], 0.375 * _tone(16_000, 1.0)[800:-800], atol=0.01)


def test_wav_round_trip(tmp_path: Path) -> None:
    audio = 0.9 * _tone(16_000, 0.5)
    write_wav(tmp_path / "tone.wav", audio)
    np.testing.assert_allclose(read_audio(tmp_path / "tone.wav"), audio, atol=1 / 32768)


def test_empty_not_finite_and_no_sound_are_named(tmp_path: Path) -> None:
    write_wav(tmp_path / "empty.wav", np.zeros(0, np.float32))
    with pytest.raises(ValueError, match=r"empty\.wav"):
        read_audio(tmp_path / "empty.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan\.wav.*not finite"):
        read_audio(tmp_path / "nan.wav")
    (tmp_path / "text.wav").write_text("this is text, not sound\n" * 100)
    with pytest.raises(ValueError, match=r"text\.wav: not a readable"):
        read_audio(tmp_path / "text.wav")
    with pytest.raises(ValueError, match="the file is empty"):
        read_audio(b"")
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        read_audio(tmp_path / "none.wav")

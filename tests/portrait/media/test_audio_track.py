"""Tests of portrait.media.audio_track: sound files joined end to end are read to their end."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from portrait.media.audio import read_audio

RATE = 48_000
SECONDS = 3.0


def _encoded(muxer: str, codec: str, hertz: float, **options: str) -> bytes:
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(SECONDS * RATE)) / RATE)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=RATE, layout="mono")
        assert isinstance(stream, AudioStream)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=RATE)
        frame = AudioFrame.from_ndarray(tone[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _loudest_hertz(sound: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(sound.size))).argmax() * 16_000 / sound.size)


@pytest.mark.parametrize(
    ("muxer", "codec", "options"),
    [
        ("mp3", "libmp3lame", {}),
        ("mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),
        ("mp3", "libmp3lame", {"write_id3v1": "1"}),
        ("adts", "aac", {}),
        ("adts", "aac", {"write_id3v2": "1"}),
        ("flac", "flac", {}),
        ("ogg", "libopus", {}),
    ],
)
def test_sound_files_joined_end_to_end(muxer: str, codec: str, options: dict[str, str]) -> None:
    parts = [_encoded(muxer, codec, hertz, **options) for hertz in (400, 1000, 600)]
    joined = read_audio(b"".join(parts))
    assert joined.size / 16_000 == pytest.approx(3 * SECONDS, abs=0.3)
    heard = [_loudest_hertz(joined[round(at * 16_000) :][:16_000]) for at in (1.0, 4.0, 7.0)]
    np.testing.assert_allclose(heard, [400, 1000, 600], atol=5)
    assert np.array_equal(joined[:40_000], read_audio(parts[0])[:40_000])


def test_a_tag_as_large_as_a_picture_is_skipped() -> None:
    """Tags may hold cover art, in which the parser takes some bytes for sound."""
    first, second = (_encoded("mp3", "libmp3lame", hertz) for hertz in (400, 1000))
    art = np.random.default_rng(0).bytes(60_000)
    length = bytes((len(art) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x04\x00\x00" + length + art
    sound = read_audio(first + tag + second)
    assert sound.size / 16_000 == pytest.approx(2 * SECONDS, abs=0.3)
    assert _loudest_hertz(sound[-32_000:-16_000]) == pytest.approx(1000, abs=5)


def test_damage_in_an_mp3_is_still_named() -> None:
    data = bytearray(_encoded("mp3", "libmp3lame", 400))
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    with pytest.raises(ValueError, match="damaged sound at 1"):
        read_audio(bytes(data), name="damaged.mp3")

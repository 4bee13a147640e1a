"""FFmpeg alone makes what the chain makes of a file, but for the face: the same size, rate, groups and sound."""

from __future__ import annotations

import inspect
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from data_prep.cut_settings import CutSettings
from data_prep.transcoding import PRESET, transcoder
from portrait.media.audio import read_audio
from portrait.media.mp4 import encode_video
from portrait.media.soundtrack import read_soundtrack
from portrait.media.video import iter_frames, probe

SETTINGS = CutSettings(size=64)
WAYS = [
    pytest.param(
        shutil.which("ffmpeg"),
        id="program",
        marks=pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on PATH"),
    ),
    pytest.param(None, id="PyAV"),
]


@pytest.mark.parametrize("program", WAYS)
def test_a_file_becomes_what_the_table_would_keep(
    footage: Callable[..., Path], tmp_path: Path, program: str | None
) -> None:
    source = footage(1) / "ann.mp4"
    transcode, name = transcoder(SETTINGS, program)
    assert ("ffmpeg version" if program else "PyAV") in name
    transcode(str(source), tmp_path)
    info = probe(tmp_path / "video.mp4")
    before = list(iter_frames(source))
    assert (info.width, info.height, info.fps, info.codec) == (64, 64, 25.0, "h264")
    assert info.num_frames == len(before)
    with av.open(io.BytesIO((tmp_path / "video.mp4").read_bytes())) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [*range(0, len(packets), 16)]
    sound, expected = read_audio(tmp_path / "audio.flac"), read_soundtrack(source)
    assert expected is not None
    shared = min(len(sound), len(expected)) - 1600
    assert np.corrcoef(sound[:shared], expected[:shared])[0, 1] > 0.98


@pytest.mark.parametrize("program", WAYS)
def test_what_cannot_be_read_is_named(tmp_path: Path, program: str | None) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    transcode, _ = transcoder(SETTINGS, program)
    with pytest.raises(ValueError, match=r"broken\.mp4: "):
        transcode(str(tmp_path / "broken.mp4"), tmp_path)


def test_x264_is_set_as_the_table_keeps_clips() -> None:
    defaults = {name: value.default for name, value in inspect.signature(encode_video).parameters.items()}
    assert defaults["preset"] == PRESET
    assert defaults["crf"] == SETTINGS.crf

"""Tests of portrait.media.hdr: HLG and PQ footage has the brightness and colours that ITU-R BT.2408 asks for."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from portrait.media.hdr import HLG, PQ, to_sdr
from portrait.media.video import read_video

BT2020 = 9
# BT.2408 table 1: signals of a grey card of 18 %, of a white of 100 % (diffuse white), and their light in cd/m².
CASES = [
    pytest.param(HLG, 0.38, 26, id="HLG grey card"),
    pytest.param(PQ, 0.38, 26, id="PQ grey card"),
    pytest.param(HLG, 0.20, 5.9, id="HLG shadow"),
]
WHITES = [pytest.param(HLG, 0.75, id="HLG"), pytest.param(PQ, 0.58, id="PQ")]


def _film(path: Path, transfer: int, signal: np.ndarray, *, turn: int = 0) -> Path:
    """Five frames of one colour, R'G'B' in 0 … 1 of BT.2020, 10 bits of limited range, 64 × 48 pixels."""
    red, green, blue = signal
    luma = 0.2627 * red + 0.678 * green + 0.0593 * blue
    levels = (64 + 876 * luma, 512 + 896 * (blue - luma) / 1.8814, 512 + 896 * (red - luma) / 1.4746)
    planes = np.empty((72, 64), np.uint16)
    planes[:48], planes[48:60], planes[60:] = (round(level) for level in levels)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace, codec.color_range = transfer, 9, 9, 1
        if turn:
            stream.set_display_rotation(turn)
        for _ in range(5):
            container.mux(stream.encode(VideoFrame.from_ndarray(planes, format="yuv420p10le")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("transfer", "signal", "light"), CASES)
def test_greys_keep_their_light(tmp_path: Path, transfer: int, signal: float, light: float) -> None:
    frames = read_video(_film(tmp_path / "film.mov", transfer, np.full(3, signal))).frames
    assert frames.shape == (5, 48, 64, 3)
    np.testing.assert_allclose(frames, 255 * (light / 203) ** (1 / 2.4), atol=4)


@pytest.mark.parametrize(("transfer", "white"), WHITES)
def test_white_is_almost_white_and_highlights_are_brighter(
    tmp_path: Path, transfer: int, white: float
) -> None:
    shown = [
        read_video(_film(tmp_path / f"{signal}.mov", transfer, np.full(3, signal))).frames.mean()
        for signal in (white, (1 + white) / 2, 1.0)
    ]
    assert 240 < shown[0] < 250
    assert shown[0] + 2 < shown[1] < shown[2] + 0.1


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_colours_of_bt_709_come_back(tmp_path: Path, transfer: int) -> None:
    """The light of a colour in BT.709, in BT.2020's primaries (BT.2087, annex 1), and back."""
    skin = np.array([0.62, 0.45, 0.36])
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = 203 * to_bt2020 @ skin**2.4
    if transfer == HLG:
        scene = (light / 1000) * (light / 1000 @ [0.2627, 0.678, 0.0593]) ** (1 / 1.2 - 1)
        signal = np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073,
        )
    else:
        power = (light / 10_000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    np.testing.assert_allclose(to_sdr(signal, transfer, BT2020), skin, atol=0.002)
    frames = read_video(_film(tmp_path / "film.mov", transfer, signal, turn=90)).frames
    assert frames.shape == (5, 64, 48, 3), "turned as its display matrix says"
    np.testing.assert_allclose(frames.mean((0, 1, 2)), 255 * skin, atol=3)

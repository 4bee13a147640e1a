"""Pictures in their planes against RGB: what is cut, shrunk or turned must be what cutting RGB gives."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from portrait.media.mp4 import EXACT_RGB, encode_video, plane_pixels, rgb_pixels
from portrait.media.planar_frame import (
    Converters,
    Orientation,
    PlanarFrame,
    ReducedFrames,
    grey_levels,
    square_pixels,
)
from portrait.media.video import iter_planar_frames, probe

BT601, BT709, LIMITED, FULL = 5, 1, 1, 2


def _smooth(height: int, width: int) -> np.ndarray:
    """A colourful picture without detail, so that chroma at half the resolution loses nothing."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(5 * x + 1), np.sin(4 * y + 2 * x), np.cos(6 * x - 3 * y)]
    return np.round(128 + 90 * np.stack(waves, -1)).astype(np.uint8)


def _planar(rgb: np.ndarray, pixels: str, matrix: int, levels: int) -> VideoFrame:
    """4:2:0 by the standards' own numbers: FFmpeg rounds chroma of full range down."""
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    r, b = (0.2126, 0.0722) if matrix == BT709 else (0.299, 0.114)
    luma = r * red + (1 - r - b) * green + b * blue
    chroma = [(blue - luma) / (2 - 2 * b), (red - luma) / (2 - 2 * r)]
    black, white, extent = (0, 255, 255) if levels == FULL else (16, 219, 224)
    height, width = luma.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    planes = [
        black + white * luma,
        *(128 + extent * cv2.resize(c, half, interpolation=cv2.INTER_AREA) for c in chroma),
    ]
    frame = VideoFrame(width, height, pixels)
    for plane, values in zip(frame.planes, planes, strict=True):
        plane_pixels(plane)[:] = np.round(values)
    frame.colorspace, frame.color_range = matrix, levels
    return frame


def _picture(rgb: np.ndarray, pixels: str, matrix: int, levels: int) -> PlanarFrame:
    if pixels in ("yuv420p", "yuvj420p"):
        return PlanarFrame(_planar(rgb, pixels, matrix, levels), Converters(VideoReformatter), "film")
    frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(
        format=pixels, dst_colorspace=matrix, dst_color_range=levels, interpolation=EXACT_RGB
    )
    return PlanarFrame(frame, Converters(VideoReformatter), "film")


def _rgb(frame: VideoFrame) -> np.ndarray:
    return rgb_pixels(frame, VideoReformatter()).astype(int)


@pytest.mark.parametrize(
    ("pixels", "matrix", "levels"),
    [
        ("yuv420p", BT601, LIMITED),
        ("yuv420p", BT709, LIMITED),
        ("yuv420p", BT709, FULL),
        ("yuvj420p", BT601, FULL),
        ("yuv420p10le", BT709, LIMITED),
        ("yuv444p", BT601, LIMITED),
        ("yuv422p", BT709, LIMITED),
        ("nv12", BT601, LIMITED),
        ("rgb24", 0, FULL),
    ],
)
@pytest.mark.parametrize(
    "box", [(20, 10, 100, 100), (20, 10, 100, 60), (20, 10, 100, 150), (-30, 44, 100, 64)]
)
def test_a_square_is_what_cutting_rgb_gives(pixels: str, matrix: int, levels: int, box) -> None:
    x0, y0, side, size = box
    rgb = _smooth(121, 163)
    picture = _picture(rgb, pixels, matrix, levels)
    assert (picture.height, picture.width) == (121, 163)
    frame = picture.square(x0, y0, side, size)
    assert (frame.format.name, frame.colorspace, frame.color_range) == ("yuv420p", BT709, LIMITED)
    assert (frame.color_primaries, frame.color_trc) == (1, 1)
    wide = cv2.copyMakeBorder(rgb, 50, 50, 50, 50, cv2.BORDER_REPLICATE)
    cut = wide[y0 + 50 : y0 + 50 + side, x0 + 50 : x0 + 50 + side]
    how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    error = _rgb(frame) - cv2.resize(cut, (size, size), interpolation=how)
    assert np.abs(error).mean() < 1.6
    assert np.abs(error.mean((0, 1))).max() < 1.0, "no channel is brighter or darker as a whole"


@pytest.mark.parametrize("pixels", ["yuvj422p", "yuv422p10le", "yuv444p12le", "nv12", "gray", "bgra"])
@pytest.mark.parametrize("size", [(240, 320), (720, 960)])
def test_a_square_of_any_format_has_the_levels_of_its_rgb(pixels: str, size: tuple[int, int]) -> None:
    """Webcams and phones; FFmpeg's way to limited range rounds chroma down."""
    levels = FULL if pixels.startswith("yuvj") else LIMITED
    picture = _picture(_smooth(*size), pixels, BT709, levels)
    shown = picture.rgb().astype(int)[20:220, 40:240]
    error = _rgb(picture.square(40, 20, 200, 200)) - shown
    assert np.abs(error).mean() < 1.0
    assert np.abs(error.mean((0, 1))).max() < 0.3


def test_untagged_video_is_601_when_small_and_709_when_large() -> None:
    for size, matrix in (((240, 320), BT601), ((720, 1280), BT709)):
        rgb = _smooth(*size)
        picture = _picture(rgb, "yuv420p", matrix, LIMITED)
        picture._frame.colorspace = 2  # as a file without tags is decoded
        error = _rgb(picture.square(0, 0, 200, 200)) - rgb[:200, :200]
        assert np.abs(error).mean() < 1.6


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_film(tmp_path: Path, turn: int) -> None:
    path = tmp_path / "turned.mp4"
    rgb = _smooth(96, 160)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.set_display_rotation(turn)
        for _ in range(3):
            container.mux(stream.encode(VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    picture = next(iter_planar_frames(path))
    shown = picture.rgb().astype(int)
    assert shown.shape[:2] == (picture.height, picture.width) == (probe(path).height, probe(path).width)
    assert np.abs(_rgb(picture.square(10, 20, 64, 64)) - shown[20:84, 10:74]).mean() < 1.0
    small = cv2.resize(shown.astype(np.uint8), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    assert np.abs(picture.reduced(40).astype(int) - small).mean() < 1.5
    region = picture.reduced(999, (12, 30, 40, 60))
    assert np.abs(region.astype(int) - shown[30:90, 12:52]).mean() < 1.0


def test_small_copies() -> None:
    rgb = _smooth(180, 320)
    picture = _picture(rgb, "yuv420p", BT709, LIMITED)
    assert picture.reduced(500).shape == (180, 320, 3), "nothing is made larger"
    for sampled in (False, True):
        small = picture.reduced(80, sampled=sampled)
        expected = cv2.resize(rgb, (80, 45), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - expected).mean() < (2.5 if sampled else 1.2)
    half = picture.shrunk(2)
    assert (half.height, half.width) == (90, 160)
    assert (
        np.abs(half.rgb() - cv2.resize(rgb, (160, 90), interpolation=cv2.INTER_AREA).astype(int)).mean() < 1.2
    )
    assert picture.shrunk(1) is picture


def test_a_smaller_copy_keeps_what_size_and_turn_say() -> None:
    rgb = _smooth(800, 1000)
    frame = _planar(rgb, "yuv420p", BT709, LIMITED)
    frame.colorspace = 2  # no tag: 709, since it is large
    small = PlanarFrame(frame, Converters(VideoReformatter), "film", Orientation(turns=1)).shrunk(4)
    assert (small.height, small.width) == (250, 200)
    expected = np.rot90(cv2.resize(rgb, (250, 200), interpolation=cv2.INTER_AREA)).astype(int)
    assert np.abs(small.rgb() - expected).mean() < 1.2
    assert np.abs(_rgb(small.square(0, 0, 200, 200)) - expected[:200, :200]).mean() < 1.6


def test_small_copies_are_made_when_they_are_asked_for() -> None:
    class Counting(PlanarFrame):
        asked = 0

        def reduced(self, longest: int, region=None, *, sampled: bool = False) -> np.ndarray:
            Counting.asked += 1
            return super().reduced(longest, region, sampled=sampled)

    frame = VideoFrame.from_ndarray(_smooth(60, 80), format="rgb24").reformat(format="yuv420p")
    pictures = [Counting(frame, Converters(VideoReformatter), "film") for _ in range(10)]
    small = ReducedFrames(pictures, (0, 0, 80, 60), 40)
    assert len(small) == 10
    assert Counting.asked == 0
    assert small[5].shape == (30, 40, 3)
    assert Counting.asked == 1


def test_what_is_no_square_of_the_picture_is_refused() -> None:
    picture = _picture(_smooth(60, 80), "yuv420p", BT601, LIMITED)
    with pytest.raises(ValueError, match="expected even numbers, found 1, 0, 20"):
        picture.square(1, 0, 20, 20)
    with pytest.raises(ValueError, match="film: 20×20 pixels at 100, 0 lie outside the 60×80 frame"):
        picture.square(100, 0, 20, 20)


def test_pixels_that_are_not_square_are_stretched() -> None:
    frame, convert = VideoFrame(80, 60, "yuv420p"), Converters(VideoReformatter)
    assert square_pixels(frame, None, convert, "film") is frame
    assert square_pixels(frame, Fraction(101, 100), convert, "film") is frame
    assert square_pixels(frame, Fraction(16, 11), convert, "film").width == 116
    with pytest.raises(ValueError, match="film: damaged, pixels 20 times as wide as high"):
        square_pixels(frame, Fraction(20), convert, "film")


def test_grey_levels_are_of_full_range() -> None:
    for level in (0, 90, 255):
        picture = _picture(np.full((32, 32, 3), level, np.uint8), "yuv420p", BT709, LIMITED)
        assert np.abs(grey_levels(picture.square(0, 0, 32, 32)).astype(int) - level).max() <= 1


def test_frames_are_encoded_as_the_pictures_they_were_made_of() -> None:
    rgb = _smooth(64, 64)
    frame = _picture(rgb, "yuv420p", BT709, LIMITED).square(0, 0, 64, 64)
    with av.open(io.BytesIO(encode_video([frame] * 3, crf=4))) as container:
        decoded = [_rgb(frame) for frame in container.decode(video=0)]
    assert len(decoded) == 3
    assert np.abs(np.stack(decoded) - rgb).mean() < 1.6
    with pytest.raises(ValueError, match="frames: expected 64×64, found 32×32"):
        encode_video([frame, _picture(rgb, "yuv420p", BT709, LIMITED).square(0, 0, 64, 32)])

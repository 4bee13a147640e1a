"""Tests of portrait.faces.crop: where the face stands in the crop, what happens at the edges, crops of crops."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.faces import (
    CropBox,
    NoFaceError,
    YuNetDetector,
    apply_crop,
    crop_portrait,
    portrait_crop,
    track_faces,
)
from portrait.media.image_file import read_image_file
from portrait.media.video import iter_frames
from portrait.synthetic import render_clip


def _box(centre_x: float, centre_y: float, w: float) -> np.ndarray:
    return np.array([[centre_x - w / 2, centre_y - 0.7 * w, w, 1.4 * w]])


def test_face_stands_slightly_above_the_middle() -> None:
    crop = portrait_crop(_box(960, 500, 220), (1080, 1920))
    assert 220 / crop.size == pytest.approx(0.44, abs=0.005)
    assert (960 - crop.x0) / crop.size == pytest.approx(0.5, abs=0.005)
    assert (500 - crop.y0) / crop.size == pytest.approx(0.47, abs=0.005)


def test_crop_holds_still_and_is_wider_where_the_head_travels() -> None:
    still = portrait_crop(np.repeat(_box(900, 500, 200), 100, axis=0), (1080, 1920))
    path = np.concatenate([_box(700 + 4 * i, 500, 200) for i in range(100)])
    moving = portrait_crop(path, (1080, 1920))
    assert moving.size > still.size + 150
    inside = (path[:, 0] > moving.x0) & (path[:, 0] + 200 < moving.x0 + moving.size)
    assert inside.all()


def test_crop_stays_inside_where_a_little_help_does() -> None:
    crop = portrait_crop(_box(230, 235, 220), (480, 640))
    assert crop.x0 >= 0
    assert crop.y0 >= 0
    assert crop.y0 + crop.size <= 480
    far = portrait_crop(_box(60, 240, 220), (480, 640))
    assert far.x0 < 0, "a face at the very edge keeps its place in the crop"


def test_a_portrait_is_taken_whole() -> None:
    assert portrait_crop(_box(250, 246, 222), (512, 512)) == CropBox(x0=0, y0=0, size=512)


def test_cropping_a_crop_changes_nothing() -> None:
    """The same face again, after the first crop has been resized to 256: measured boxes waver by 6 %."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(400, 1200, 2)
        w = float(rng.uniform(0.15, 0.45) * min(height, width))
        x, y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.35, 0.65) * height
        crop = portrait_crop(_box(x, y, w), (int(height), int(width)))
        scale, waver = 256 / crop.size, rng.uniform(0.94, 1.06)
        again = portrait_crop(
            _box((x - crop.x0) * scale, (y - crop.y0) * scale, w * scale * waver), (256, 256)
        )
        assert again == CropBox(x0=0, y0=0, size=256)


def test_apply_crop_takes_the_right_pixels_and_repeats_the_edge() -> None:
    picture = np.zeros((10, 12, 3), np.uint8)
    picture[:, :, 0] = np.arange(12)
    picture[:, :, 1] = np.arange(10)[:, None]
    inner = apply_crop(picture[None], CropBox(x0=3, y0=2, size=4), 4)[0]
    np.testing.assert_array_equal(inner, picture[2:6, 3:7])
    outside = apply_crop(picture[None], CropBox(x0=-2, y0=8, size=4), 4)[0]
    assert outside[0, :, 0].tolist() == [0, 0, 0, 1]
    assert outside[:, 0, 1].tolist() == [8, 9, 9, 9]
    assert apply_crop([picture] * 3, CropBox(x0=0, y0=0, size=8), 20).shape == (3, 20, 20, 3)
    with pytest.raises(ValueError, match="outside the 10×12 picture"):
        apply_crop(picture[None], CropBox(x0=50, y0=50, size=4), 4)


def test_no_face_is_named() -> None:
    with pytest.raises(NoFaceError, match=r"wall\.png: no face found"):
        crop_portrait(np.full((200, 200, 3), 128, np.uint8), 64, name="wall.png")


def _head(size: int = 256) -> np.ndarray:
    return cv2.resize(render_clip(0, 0.2, size=256).frames[0], (size, size), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_lies_on_its_side_is_turned_upright(turns: int) -> None:
    upright = crop_portrait(_head(), 128)
    np.testing.assert_array_equal(crop_portrait(np.rot90(_head(), turns), 128), upright)


def test_two_people_are_refused_and_a_small_one_behind_is_not() -> None:
    both = np.concatenate([_head(), render_clip(1, 0.2, size=256).frames[0]], axis=1)
    with pytest.raises(ValueError, match=r"pair\.png: several people, expected one"):
        crop_portrait(both, 128, name="pair.png")
    wide = np.full((256, 400, 3), 128, np.uint8)
    wide[:, :256], wide[:100, 280:380] = (
        _head(),
        render_clip(1, 0.2, size=256).frames[0][::2, ::2][:100, :100],
    )
    assert crop_portrait(wide, 128).shape == (128, 128, 3)


def test_small_faces_are_cut_out_or_their_size_is_named() -> None:
    canvas = np.full((1080, 1920, 3), 128, np.uint8)
    canvas[900:1028, 1700:1828] = _head(128)
    portrait = crop_portrait(canvas, 128)
    face = YuNetDetector().detect(portrait)[0]
    assert 0.34 < face.w / 128 < 0.56
    tiny = np.full((540, 960, 3), 128, np.uint8)
    tiny[400:448, 800:848] = _head(48)
    with pytest.raises(ValueError, match=r"far\.png: the face is 2\d pixels wide, expected at least 32"):
        crop_portrait(tiny, 128, name="far.png")


@pytest.mark.slow
def test_real_clips_are_centred_steady_and_idempotent(real_material: Path) -> None:
    detector, judge = YuNetDetector(), YuNetDetector(working_size=640)
    for path in sorted((real_material / "clips").iterdir()):
        frames = list(iter_frames(path, max_seconds=1.6))
        track = track_faces(frames, detector, every=10)
        assert track.found >= 0.6, path.name
        assert track.other_faces < 0.3, path.name
        crop = portrait_crop(track, (frames[0].shape[0], frames[0].shape[1]))
        portraits = apply_crop(frames, crop, 256)
        for portrait in portraits[::20]:
            face = judge.detect(portrait)[0]
            assert abs(face.centre[0] - 128) < 40, path.name
            assert abs(face.centre[1] - 124) < 36, path.name
            assert 0.34 < face.w / 256 < 0.56, path.name
        again = portrait_crop(track_faces(portraits, detector, every=10), (256, 256))
        assert again == CropBox(x0=0, y0=0, size=256), path.name


@pytest.mark.slow
def test_real_stills_give_portraits(real_material: Path) -> None:
    detector, judge = YuNetDetector(), YuNetDetector(working_size=640)
    for path in sorted((real_material / "stills").iterdir()):
        portrait = crop_portrait(read_image_file(path), 256, detector, name=path.name)
        face = judge.detect(portrait)[0]
        assert 0.34 < face.w / 256 < 0.56, path.name
        assert abs(face.centre[0] - 128) < 30, path.name
        np.testing.assert_array_equal(crop_portrait(portrait, 256, detector), portrait, err_msg=path.name)

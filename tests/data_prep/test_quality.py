import cv2
import numpy as np
import pytest

from data_prep import quality


def test_sharpness_falls_when_the_face_is_blurred_and_ignores_the_background():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, 64, 64), dtype=np.uint8)
    boxes = np.tile(np.array([16, 16, 32, 32], np.float32), (4, 1))
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in frames])
    background = frames.copy()
    background[:, 16:48, 16:48] = blurred[:, 16:48, 16:48]
    assert quality.sharpness(blurred, boxes) < 0.05 * quality.sharpness(frames, boxes)
    assert quality.sharpness(background, boxes) == pytest.approx(quality.sharpness(blurred, boxes), rel=0.01)


def test_sharpness_of_a_box_outside_the_picture_is_zero():
    assert quality.sharpness(np.zeros((1, 8, 8), np.uint8), np.array([[20, 20, 4, 4]], np.float32)) == 0.0


def test_motion_is_the_mean_step_in_grey_levels():
    frames = np.zeros((5, 8, 8), np.uint8) + np.arange(5, dtype=np.uint8)[:, None, None] * 3
    assert quality.motion(frames) == pytest.approx(3.0)
    assert quality.motion(frames[:1]) == 0.0


def test_brightness_is_the_faces_alone():
    frames = np.full((3, 64, 64), 200, np.uint8)
    frames[:, 16:48, 16:48] = 60
    boxes = np.tile(np.array([16, 16, 32, 32], np.float32), (3, 1))
    assert quality.brightness(frames, boxes) == pytest.approx(60.0)
    assert quality.brightness(frames, boxes + 200) == 0.0

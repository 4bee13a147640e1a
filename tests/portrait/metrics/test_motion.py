"""Motion and diversity against known shifts and distances."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from portrait.metrics.motion import diversity, head_motion, spread_of_motion


def test_a_shifted_picture_has_moved_by_that_shift() -> None:
    rng = np.random.default_rng(0)
    world = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8), (0, 0), 2)
    shifts = [(0, 0), (3, 0), (0, -5), (-4, 6)]
    frames = np.stack([world[40 - y : 168 - y, 40 - x : 168 - x] for x, y in shifts])
    np.testing.assert_allclose(head_motion(frames.astype(np.uint8)) * 128, shifts, atol=0.3)


def test_a_still_picture_does_not_move() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(head_motion(np.stack([frame] * 3)), 0, atol=1e-3)


def test_diversity_is_the_mean_over_all_pairs() -> None:
    takes = [np.full(10, value, np.float32) for value in (0.0, 1.0, 3.0)]
    assert diversity(takes) == pytest.approx((1 + 3 + 2) / 3)
    apart = [np.zeros((5, 2), np.float32), np.tile(np.array([3.0, 4.0], np.float32), (5, 1))]
    assert diversity(apart) == pytest.approx(5)
    assert diversity([takes[1], takes[1]]) == 0


def test_one_take_or_other_lengths_are_refused() -> None:
    for takes in ([np.zeros(3, np.float32)], [np.zeros(3, np.float32), np.zeros(4, np.float32)]):
        with pytest.raises(ValueError, match="at least two takes of the same shape"):
            diversity(takes)


def test_motion_that_goes_in_jumps_is_told_from_motion_that_is_even() -> None:
    truth = np.zeros((9, 8, 8, 3), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None] * 5
    assert spread_of_motion(truth, truth) == pytest.approx((1.0, 1.0))
    jumping = truth[[0, 4, 4, 4, 4, 8, 8, 8, 8]]
    assert spread_of_motion(jumping, truth) == pytest.approx((0.0, 4.0))
    assert spread_of_motion(truth // 2, truth)[0] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match=r"1 \+ a multiple of 4 frames, got \[8,"):
        spread_of_motion(truth[:8], truth[:8])

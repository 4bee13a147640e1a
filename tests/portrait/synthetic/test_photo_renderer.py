"""The head of a photograph moves as given, with ground truth about positions, before a static background."""

from __future__ import annotations

import numpy as np
import pytest

from portrait.synthetic.photo_renderer import PhotoRenderer
from portrait.synthetic.renderer import FrameState

SIZE = 160


@pytest.fixture(scope="module")
def renderer(still: np.ndarray, still_landmarks: np.ndarray) -> PhotoRenderer:
    # The first of the seeds that keeps the still's own ground.
    return PhotoRenderer(still, still_landmarks, SIZE, np.random.default_rng(0))


def _green(frame: np.ndarray) -> np.ndarray:
    """The green tip of the nose (x, y)."""
    green = frame[..., 1].astype(float) - frame[..., [0, 2]].max(-1)
    rows, columns = np.nonzero(green > 40)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


@pytest.mark.parametrize("pose", [(0.0, 0.0, 0.0), (0.25, 0.0, 0.0), (-0.2, 0.1, 0.0), (0.1, -0.1, 0.1)])
def test_the_tip_of_the_nose_is_where_locate_says(
    renderer: PhotoRenderer, pose: tuple[float, float, float]
) -> None:
    state = FrameState(pose=pose, shift=(0.01, -0.005))
    nose = renderer._board.landmarks[[4]]
    np.testing.assert_allclose(_green(renderer.frame(state)), renderer.locate(nose, state)[0], atol=1.2)


def test_the_nose_turns_with_the_yaw_and_the_ground_stays(renderer: PhotoRenderer) -> None:
    straight, turned = renderer.frame(FrameState()), renderer.frame(FrameState(pose=(0.25, 0.0, 0.0)))
    assert _green(turned)[0] > _green(straight)[0] + 3
    np.testing.assert_array_equal(straight[:20, :20], turned[:20, :20])
    changed = (np.abs(straight.astype(int) - turned).max(-1) > 30).mean()
    assert changed > 0.01


def test_the_gap_in_pixels_follows_the_opening(renderer: PhotoRenderer) -> None:
    gaps = [renderer.mouth_truth(FrameState(opening=opening))[1] for opening in (0.0, 0.5, 1.0)]
    assert gaps[0] == pytest.approx(0, abs=1e-6)
    assert gaps[1] == pytest.approx(0.5 * gaps[2], rel=0.05)
    assert gaps[2] == pytest.approx(renderer.mouth_full_px, rel=0.1)


def test_the_shoulders_follow_less_than_the_head(renderer: PhotoRenderer) -> None:
    state = FrameState(shift=(0.05, 0.0))
    points = np.array([renderer._board.centre, [renderer._board.centre[0], 1.0]])
    head, shoulders = renderer.locate(points, state) - renderer.locate(points, FrameState())
    assert head[0] == pytest.approx(0.05 * SIZE, rel=0.02)
    assert 0.1 * head[0] < shoulders[0] < 0.5 * head[0]


def test_equal_seeds_give_equal_frames(still: np.ndarray, still_landmarks: np.ndarray) -> None:
    state = FrameState(opening=0.4, pose=(0.1, 0.0, 0.0), blink=0.5)
    frames = [
        PhotoRenderer(still, still_landmarks, 64, np.random.default_rng(seed)).frame(state)
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


def test_a_size_that_is_no_multiple_of_four_is_refused(
    still: np.ndarray, still_landmarks: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="size must be a multiple of 4 from 32 on, got 90"):
        PhotoRenderer(still, still_landmarks, 90, np.random.default_rng(0))

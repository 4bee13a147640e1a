"""A photograph is placed upright and framed; the person is separated from the background, which is filled in."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.synthetic.photo_layers import FACE_WIDTH, MARGIN, Board, behind, matte, place

SCALE = 200


def _board(still: np.ndarray, landmarks: np.ndarray) -> Board:
    return place(still, landmarks, SCALE, np.random.default_rng(0))


def test_a_tilted_still_is_placed_upright_and_framed(still: np.ndarray, still_landmarks: np.ndarray) -> None:
    matrix = cv2.getRotationMatrix2D((200, 200), 20, 0.7)
    tilted = cv2.warpAffine(still, matrix, (400, 400), borderMode=cv2.BORDER_REPLICATE)
    landmarks = still_landmarks.copy()
    landmarks[:, :2] = still_landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    board = _board(tilted, landmarks)
    assert abs(board.landmarks[33, 1] - board.landmarks[263, 1]) < 1e-6
    assert 0.9 * FACE_WIDTH < 2 * board.half_width < 1.12 * FACE_WIDTH
    # The green tip of the nose is where its landmark says.
    x, y = np.round(board.pixels(board.landmarks[4])).astype(int)
    assert board.picture[y, x].argmax() == 1
    assert board.picture[y, x, 1] > 0.8


def test_the_board_goes_on_beyond_the_still(still: np.ndarray, still_landmarks: np.ndarray) -> None:
    tight = still[90:290, 110:290]
    board = _board(tight, still_landmarks - np.array([110, 90, 0]))
    assert board.picture.shape == (round((1 + 2 * MARGIN) * SCALE),) * 2 + (3,)
    assert board.picture.min() >= 0
    assert 2 * board.half_width > 1.1 * FACE_WIDTH  # enlarged, so that less has to be made up
    corner = board.picture[:10, :10]
    assert corner.std(axis=(0, 1)).max() < 0.02  # smooth, no streaks
    np.testing.assert_allclose(corner.mean((0, 1)) * 255, (40, 60, 160), atol=25)


def test_the_matte_holds_the_person_and_nothing_else(still: np.ndarray, still_landmarks: np.ndarray) -> None:
    board = _board(still, still_landmarks)
    coverage = matte(board)
    person = board.picture[..., 0] > board.picture[..., 2]
    assert coverage.shape == person.shape
    assert coverage.min() >= 0
    assert coverage.max() <= 1
    assert ((coverage > 0.5) == person).mean() > 0.97


def test_the_ground_behind_the_person_is_made_of_the_ground(
    still: np.ndarray, still_landmarks: np.ndarray
) -> None:
    board = _board(still, still_landmarks)
    coverage = matte(board)
    ground = behind(board.picture, coverage)
    np.testing.assert_allclose(ground[coverage > 0.9].mean(0) * 255, (40, 60, 160), atol=12)
    away = cv2.dilate(coverage, np.ones((25, 25), np.uint8)) == 0
    np.testing.assert_allclose(ground[away], board.picture[away], atol=0.02)

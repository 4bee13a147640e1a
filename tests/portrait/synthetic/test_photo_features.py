"""A photographed mouth opens by as much as is asked, a photographed eye closes, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from portrait.synthetic.photo_features import PhotoEyes, PhotoMouth
from portrait.synthetic.photo_layers import Board, place


@pytest.fixture
def board(still: np.ndarray, still_landmarks: np.ndarray) -> Board:
    return place(still, still_landmarks, 240, np.random.default_rng(0))


FACE = np.array([200, 90, 80]) / 255


def _column(texture: np.ndarray, x: float) -> np.ndarray:
    return texture[:, round(x)]


def test_a_closed_mouth_stays_as_it_is(board: Board) -> None:
    mouth = PhotoMouth(board, 1.0)
    texture = board.picture.copy()
    mouth.draw(texture, board.picture, opening=0.0, rounding=0.0)
    np.testing.assert_allclose(texture, board.picture, atol=0.02)


@pytest.mark.parametrize("opening", [0.4, 1.0])
def test_the_gap_is_as_wide_as_asked_and_lies_where_it_is_said_to(board: Board, opening: float) -> None:
    mouth = PhotoMouth(board, 1.0)
    texture = board.picture.copy()
    mouth.draw(texture, board.picture, opening=opening, rounding=0.0)
    upper, lower = mouth.gap(opening)
    assert (lower - upper)[1] * board.scale == pytest.approx(opening * mouth.full_px)
    column = _column(texture, mouth.centre_x)
    inside = np.abs(column - FACE).max(1) > 0.1  # the tongue is not far from the face
    rows = np.arange(len(column))
    top, bottom = board.pixels(upper)[1], board.pixels(lower)[1]
    within = (rows > top + 1) & (rows < bottom - 1)
    near = (rows > top - 6) & (rows < bottom + 12)
    assert inside[within].mean() > 0.9
    assert not inside[near & ((rows < top - 1) | (rows > bottom + 1))].any()


def test_an_open_mouth_closes(board: Board, still_landmarks: np.ndarray, still: np.ndarray) -> None:
    landmarks = still_landmarks.copy()
    across = np.linspace(-1, 1, 11)
    lower = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
    landmarks[list(lower), 1] += 14 * (1 - across**2)
    picture = still.copy()
    picture[241:253, 190:210] = 0  # the inside of the photographed mouth
    board = place(picture, landmarks, 240, np.random.default_rng(0))
    mouth = PhotoMouth(board, 1.0)
    assert mouth.rest_gap > 5
    texture = board.picture.copy()
    mouth.draw(texture, board.picture, opening=0.0, rounding=0.0)
    upper, lower_edge = mouth.gap(0.0)
    np.testing.assert_allclose(upper, lower_edge)
    middle = round(board.pixels(upper)[1])
    column = _column(texture, mouth.centre_x)[middle - 20 : middle + 20]
    assert (column[:, 0] < 0.3).sum() <= 2
    assert (_column(board.picture, mouth.centre_x)[middle - 20 : middle + 20, 0] < 0.3).sum() >= 8


def test_a_round_mouth_is_narrower(board: Board) -> None:
    widths = []
    mouth = PhotoMouth(board, 1.0)
    for rounding in (-1.0, 1.0):
        texture = board.picture.copy()
        mouth.draw(texture, board.picture, opening=0.6, rounding=rounding)
        upper, lower = mouth.gap(0.6)
        rows = slice(*(round(board.pixels(edge)[1]) for edge in (upper, lower)))
        columns = slice(*np.round(mouth.centre_x + np.array([-40, 40])).astype(int))
        inside = np.abs(texture[rows, columns] - FACE).max(-1) > 0.1
        widths.append(int(np.ptp(np.flatnonzero(inside.any(0)))))
    assert widths[1] < 0.92 * widths[0]


def test_a_blink_covers_the_white_of_the_eyes_with_skin(board: Board) -> None:
    eyes = PhotoEyes(board)
    texture = board.picture.copy()
    whites = []
    for blink in (0.0, 0.5, 1.0):
        eyes.draw(texture, board.picture, blink, (0.0, 0.0))
        whites.append(int((texture.min(-1) > 0.7).sum()))
    assert whites[0] > 150
    assert 0.3 * whites[0] < whites[1] < 0.75 * whites[0]
    assert whites[2] < 0.25 * whites[0]


def test_open_eyes_that_look_ahead_are_as_photographed(board: Board) -> None:
    texture = board.picture.copy()
    PhotoEyes(board).draw(texture, board.picture, 0.0, (0.0, 0.0))
    np.testing.assert_allclose(texture, board.picture, atol=0.06)

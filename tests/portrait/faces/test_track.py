"""Tests of portrait.faces.track with a detector whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from portrait.faces import Face, NoFaceError, track_faces


def _frames(count: int) -> list[np.ndarray]:
    """Blank frames that carry their number, for `Scripted`."""
    frames = np.zeros((count, 100, 200, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(count)
    return list(frames)


class Scripted:
    """A detector that answers from a list, an entry for every n-th frame."""

    working_size = 640

    def __init__(self, answers: list[list[Face]], every: int = 5) -> None:
        self.answers = answers
        self.every = every

    def detect(self, frame: np.ndarray) -> list[Face]:
        number = int(frame[0, 0, 0])
        assert number % self.every == 0
        return self.answers[number // self.every]


def _face(x: float, w: float = 40.0, y: float = 20.0) -> Face:
    return Face(x=x, y=y, w=w, h=1.4 * w, score=5.0)


def test_positions_between_searched_frames_are_interpolated() -> None:
    track = track_faces(_frames(51), Scripted([[_face(i * 5.0)] for i in range(11)]), every=5)
    assert track.boxes.shape == (51, 4)
    assert track.found == 1.0
    assert track.other_faces == 0.0
    np.testing.assert_allclose(track.boxes[10:40, 0], np.arange(10, 40), atol=0.1)
    np.testing.assert_allclose(track.boxes[:, 2], 40, atol=1e-4)


def test_jitter_is_smoothed_and_a_single_outlier_ignored() -> None:
    rng = np.random.default_rng(0)
    answers = [[_face(60 + rng.normal())] for _ in range(51)]
    answers[25] = [_face(75, w=52)]
    track = track_faces(_frames(51), Scripted(answers, every=1), every=1)
    assert np.abs(np.diff(track.boxes[:, 0])).max() < 0.6
    np.testing.assert_allclose(track.boxes[20:30, 0], 60, atol=1.5)


def test_the_main_face_is_the_one_that_is_large_for_longest() -> None:
    # A small face all along, a large one in two of ten frames, and the main one that is missed now and then.
    answers = [[_face(0, w=20)] + ([_face(100, w=50)] if i not in (3, 4) else []) for i in range(10)]
    answers[6].append(_face(30, w=60, y=60))
    track = track_faces(_frames(46), Scripted(answers), every=5)
    assert track.found == pytest.approx(0.8)
    np.testing.assert_allclose(track.boxes[:, 0], 100, atol=1e-3)
    assert track.other_faces == 0.0, "20 px is too small, and a face seen once is not lasting"


def test_two_people_are_other_faces() -> None:
    track = track_faces(_frames(50), Scripted([[_face(0, w=45), _face(100, w=50)]] * 10), every=5)
    assert track.other_faces == 1.0
    np.testing.assert_allclose(track.boxes[:, 0], 100, atol=1e-3)


def test_a_face_that_was_lost_and_comes_back_is_the_same() -> None:
    answers = [[_face(80)]] * 5 + [[]] * 10 + [[_face(82)]] * 5
    track = track_faces(_frames(100), Scripted(answers), every=5)
    assert track.found == 0.5
    assert track.other_faces == 0.0


def test_no_face_and_no_frames_are_named() -> None:
    with pytest.raises(NoFaceError, match=r"a\.mp4: no face found \(2 of 6 frames searched\)"):
        track_faces(_frames(6), Scripted([[], []]), every=5, name="a.mp4")
    with pytest.raises(ValueError, match="at least one frame"):
        track_faces([], Scripted([]))

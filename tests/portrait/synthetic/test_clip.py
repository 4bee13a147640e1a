"""Synthetic clips: deterministic, true to their tracks, found by the embedded detector (about 20 s)."""

import cv2
import numpy as np
import pytest

from portrait.faces import YuNetDetector
from portrait.synthetic import render_clip, render_for_audio


def test_shapes_types_and_ranges() -> None:
    clip = render_clip(4, 1.0, size=128)
    assert clip.frames.shape == (25, 128, 128, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.audio.shape == (16000,)
    assert clip.audio.dtype == np.float32
    assert clip.mouth_opening.shape == clip.mouth_opening_px.shape == (25,)
    assert clip.head_pose.shape == (25, 3)
    assert clip.mouth_centre.shape == (25, 2)
    assert clip.frames.std() > 25, "a picture without contrast"


def test_a_clip_is_a_function_of_its_seeds() -> None:
    first = render_clip(7, 0.4, size=64, clip_seed=2)
    np.random.seed(123)
    render_clip(8, 0.2, size=64)
    again = render_clip(7, 0.4, size=64, clip_seed=2)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.audio, again.audio)
    for other in (render_clip(7, 0.4, size=64, clip_seed=3), render_clip(9, 0.4, size=64, clip_seed=2)):
        assert np.abs(first.frames[0].astype(int) - other.frames[0]).mean() > 8


def still(opening: np.ndarray, identity: int = 3, size: int = 256) -> np.ndarray:
    return render_for_audio(identity, np.zeros(0, np.float32), opening, size=size, motion=0.0).frames


def test_only_the_mouth_and_chin_change_with_the_opening() -> None:
    silent = np.zeros(640 * 2, np.float32)
    shut = render_for_audio(3, silent, np.zeros(2), size=256, motion=0.0)
    wide = render_for_audio(3, silent, np.ones(2), size=256, motion=0.0)
    changed = np.abs(shut.frames[0].astype(int) - wide.frames[0]).max(2) > 24
    rows, columns = np.nonzero(changed)
    x, y = wide.mouth_centre[0]
    assert len(rows) > 200
    assert y - 20 < rows.min()
    assert rows.max() < y + 50
    assert abs(columns.mean() - x) < 8
    assert shut.mouth_opening_px[0] < 0.5
    assert wide.mouth_opening_px[0] == pytest.approx(wide.mouth_full_px, rel=0.06)


def test_true_gap_is_where_the_picture_shows_it() -> None:
    """Independent of the renderer's bookkeeping: the lower lip's edge is seen where the truth says it is."""
    for identity in (3, 5, 11):
        clip = render_for_audio(
            identity, np.zeros(0, np.float32), np.array([0.0, 0.5, 1.0]), size=512, motion=0.0
        )
        for t in (1, 2):
            x, y = clip.mouth_centre[t]
            edge = round(y + clip.mouth_opening_px[t] / 2)
            # on the centre line the mouth's inside is dark, the lip below it bright and red
            column = clip.frames[t][:, round(x) - 3 : round(x) + 4].astype(float).mean(1)
            steps = np.abs(np.diff(column.sum(1)))[edge - 4 : edge + 5]
            assert abs(int(np.argmax(steps)) - 4) <= 2, f"identity {identity}: the lip's edge is elsewhere"
            redness = column[:, 0] - column[:, 1]
            assert redness[edge + 5] > redness[round(y)]


def test_tracks_are_checked() -> None:
    silent = np.zeros(640, np.float32)
    with pytest.raises(ValueError, match="mouth_opening"):
        render_for_audio(0, silent, np.array([1.2]), size=64)
    with pytest.raises(ValueError, match="rounding"):
        render_for_audio(0, silent, np.zeros(3), rounding=np.zeros(2), size=64)
    with pytest.raises(ValueError, match="size"):
        render_clip(0, 0.2, size=130)


def test_the_embedded_detector_finds_the_face_in_nearly_all_clips() -> None:
    detector = YuNetDetector()
    people, found = 30, 0
    for identity in range(1000, 1000 + people):
        clip = render_clip(identity, 0.36, size=256, clip_seed=identity)
        hits = 0
        for frame in clip.frames[::4]:
            boxes = [f for f in detector.detect(frame) if 0.3 < f.w / 256 < 0.65]
            hits += any(abs(f.x + f.w / 2 - 128) < 40 and abs(f.y + f.h / 2 - 122) < 40 for f in boxes)
        found += hits >= 2
    assert found >= 0.95 * people, f"{found} of {people}"


def test_head_turns_the_way_the_truth_says() -> None:
    """The nose's shine, tracked by optical flow between two frames, moves to the right when yaw grows."""
    clip = render_clip(12, 6.0, size=256)
    yaw = clip.head_pose[:, 0]
    a, b = int(np.argmin(yaw)), int(np.argmax(yaw))
    assert yaw[b] - yaw[a] > 0.08
    greys = [cv2.cvtColor(clip.frames[t], cv2.COLOR_RGB2GRAY) for t in (a, b)]
    flow = cv2.calcOpticalFlowFarneback(
        greys[0], greys[1], np.zeros((256, 256, 2), np.float32), 0.5, 4, 25, 4, 7, 1.5, 0
    )
    nose, rim = flow[125:145, 118:138, 0].mean(), flow[20:60, 5:35, 0].mean()
    assert nose > 2
    assert abs(rim) < 1.5

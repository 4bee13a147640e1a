import numpy as np
import pytest

from data_prep.shots import LOOKAHEAD, ShotDetector
from portrait.media.video import iter_frames


def cuts(frames):
    """First frames of new shots, by the numbers that the detector says `LOOKAHEAD` frames later."""
    detector = ShotDetector(3.0, 25)
    found = []
    for number, frame in enumerate(frames):
        cut = detector.push(frame)
        if cut is not None:
            assert cut == number - LOOKAHEAD
            found.append(cut)
    return found + detector.finish()


def scene(seed, length, step=0):
    """A textured picture, moving by so many pixels a frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (12, 24, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    noise = rng.integers(-3, 4, (length, *picture.shape))
    return np.stack(
        [np.clip(np.roll(picture, step * t, axis=1).astype(int) + noise[t], 0, 255) for t in range(length)]
    ).astype(np.uint8)


def test_a_shot_begins_with_the_first_frame_of_the_other_picture():
    frames = np.concatenate([scene(0, 20), scene(1, 7), scene(2, 20)])
    assert cuts(frames) == [20, 27]


@pytest.mark.parametrize("at", [1, 2, 3, 4, 37, 38, 39])
def test_a_shot_of_a_few_frames_at_either_end_is_found(at):
    """Spans of footage are often cut next to its own cuts; a clip's first and last picture become references."""
    assert cuts(np.concatenate([scene(0, at), scene(1, 40 - at)])) == [at]


def test_a_moving_camera_is_no_cut_at_either_end():
    assert cuts(scene(0, 8, step=6)) == []


def test_a_moving_camera_is_no_cut():
    assert cuts(scene(0, 40, step=6)) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length):
    frames = scene(0, 40)
    frames[15 : 15 + length] = 255 - (255 - frames[15 : 15 + length]) // 4
    assert cuts(frames) == []


def test_the_first_frame_begins_no_new_shot():
    assert cuts(scene(0, 10)) == []


@pytest.mark.slow
def test_real_clips_of_one_shot_have_no_cut_and_two_of_them_in_a_row_have_one(real_material):
    names = ("woman_a_1.mp4", "woman_c.mp4", "man_d.mp4", "woman_f.mp4", "man_g.mp4")
    clips = [list(iter_frames(real_material / "clips" / name, max_seconds=4)) for name in names]
    for name, frames in zip(names, clips, strict=True):
        assert cuts(frames) == [], name
    pairs = [(clips[0], clips[1]), (clips[1], clips[0])]
    for one, other in pairs:
        side = min(one[0].shape[0], other[0].shape[0])
        frames = [frame[:side, :side] for frame in (*one, *other)]
        assert cuts(frames) == [len(one)]

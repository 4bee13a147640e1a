"""Lip aperture against rendered truth, on people the network was not fitted on (about 30 s)."""

import cv2
import numpy as np
import pytest

from portrait.metrics.correlation import correlation
from portrait.metrics.fit_lip_aperture import FIRST_IDENTITY
from portrait.metrics.lip_aperture import lip_aperture
from portrait.synthetic import SyntheticClip, render_clip

PEOPLE = range(70_000, 70_024)


@pytest.fixture(scope="module", params=[128, 256])
def clips(request: pytest.FixtureRequest) -> list[SyntheticClip]:
    assert max(PEOPLE) < FIRST_IDENTITY
    return [render_clip(identity, 2.0, size=request.param, clip_seed=identity) for identity in PEOPLE]


def relative_errors(clips: list[SyntheticClip], blur: float = 0.0) -> np.ndarray:
    """Mean absolute error of each clip over its full opening."""
    errors = []
    for clip in clips:
        size = clip.frames.shape[1]
        frames = clip.frames[::2]
        if blur:
            frames = np.stack([cv2.GaussianBlur(f, (0, 0), blur * size / 128) for f in frames])
        measured = lip_aperture(frames) * size
        errors.append(np.abs(measured - clip.mouth_opening_px[::2]).mean() / clip.mouth_full_px)
    return np.array(errors)


def test_error_is_under_five_per_cent_of_the_full_opening(clips: list[SyntheticClip]) -> None:
    errors = relative_errors(clips)
    print(
        f"aperture error at {clips[0].frames.shape[1]}²: mean {errors.mean():.3f}, worst person {errors.max():.3f}"
    )
    assert errors.mean() < 0.05
    assert errors.max() < 0.12


def test_blur_like_a_vaes_is_borne(clips: list[SyntheticClip]) -> None:
    errors = relative_errors(clips, blur=1.2)
    print(f"blurred: mean {errors.mean():.3f}, worst person {errors.max():.3f}")
    assert errors.mean() < 0.07


def test_follows_each_person(clips: list[SyntheticClip]) -> None:
    values = [correlation(lip_aperture(c.frames), c.mouth_opening_px) for c in clips]
    assert np.median(values) > 0.97
    assert min(values) > 0.9


def test_reads_one_frame_at_a_time(clips: list[SyntheticClip]) -> None:
    frames = clips[0].frames[:7]
    together = lip_aperture(frames)
    assert np.allclose(together, [lip_aperture(frames[t : t + 1])[0] for t in range(7)], atol=1e-5)
    assert np.allclose(together, lip_aperture(frames, batch_size=3), atol=1e-5)
    assert lip_aperture(frames[:0]).shape == (0,)


def test_frames_are_checked() -> None:
    for bad in (
        np.zeros((2, 64, 48, 3), np.uint8),
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="frames"):
            lip_aperture(bad)

"""FVD25 with features that can be worked out by hand."""

import numpy as np
import pytest

from portrait.metrics.fvd import fvd, video_moments, windows


def _means(video):
    """Stands for I3D: the mean of each colour."""
    return video.mean(dim=(2, 3, 4))


def _video(rng, frames, brightness):
    noise = rng.integers(0, 40, (frames, 8, 8, 3))
    return (noise + brightness).astype(np.uint8)


def test_windows_are_25_frames_and_a_remainder_is_unused():
    video = np.arange(80, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    assert [w[0, 0, 0, 0] for w in windows(video)] == [0, 25, 50]
    assert [w[0, 0, 0, 0] for w in windows(video, stride=40)] == [0, 40]
    assert all(len(w) == 25 for w in windows(video, stride=7))


def test_the_moments_are_those_of_all_windows():
    rng = np.random.default_rng(0)
    videos = [_video(rng, 60, 20), _video(rng, 25, 90)]
    moments = video_moments(videos, _means)
    parts = [videos[0][:25], videos[0][25:50], videos[1]]
    expected = np.stack([(part / 127.5 - 1).mean(axis=(0, 1, 2)) for part in parts])
    assert moments.count == 3
    np.testing.assert_allclose(moments.mean, expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(expected, rowvar=False), atol=1e-6)


def test_fvd_is_zero_for_the_same_videos_and_the_squared_shift_for_brighter_ones():
    rng = np.random.default_rng(1)
    videos = [_video(rng, 50, brightness) for brightness in (10, 60, 120)]
    brighter = [
        (video + 51).astype(np.uint8) for video in videos
    ]  # 51 / 127.5 = 0.4 in each of three colours
    reference = video_moments(videos, _means)
    assert fvd(reference, reference) == pytest.approx(0, abs=1e-9)
    assert fvd(video_moments(brighter, _means), reference) == pytest.approx(3 * 0.4**2, rel=1e-4)


def test_what_has_no_window_is_refused():
    with pytest.raises(ValueError, match="a video of 24 frames, expected at least 25"):
        list(windows(np.zeros((24, 4, 4, 3), np.uint8)))
    with pytest.raises(ValueError, match="expected uint8"):
        list(windows(np.zeros((30, 4, 4, 3), np.float32)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no video"):
        video_moments([], _means)

"""Correlation and lag against numpy and known shifts."""

import numpy as np
import pytest

from portrait.metrics.correlation import aperture_follow, best_lag, correlation
from portrait.synthetic import render_for_audio


def test_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, 3 * a + 2) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)


def test_a_constant_has_no_correlation() -> None:
    assert np.isnan(correlation(np.ones(9), np.arange(9.0)))


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_finds_by_how_much_a_track_is_late(late: int) -> None:
    b = np.random.default_rng(1).standard_normal(80)
    lag, value = best_lag(np.roll(b, late), b, 6)
    assert lag == late
    assert value == pytest.approx(1, abs=1e-6)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="a and b"):
        correlation(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="max_lag"):
        best_lag(np.zeros(5), np.zeros(5), 4)


def test_a_mouth_follows_its_own_track_and_not_another() -> None:
    rng = np.random.default_rng(5)
    opening = np.clip(np.convolve(rng.uniform(-1, 1.6, 60), np.hanning(7) / 3, mode="same"), 0, 1)
    clip = render_for_audio(70_001, np.zeros(0, np.float32), opening, size=128)
    follow = aperture_follow(clip.frames, opening)
    assert follow.correlation > 0.95
    assert follow.best_lag == 0
    assert follow.aperture.shape == (60,)
    late = aperture_follow(clip.frames[:-3], opening[3:])
    assert late.best_lag == 3
    assert abs(aperture_follow(clip.frames, rng.permutation(opening), 0).correlation) < 0.5

"""Correlation against numpy, and of a rendered mouth with its truth."""

import numpy as np
import pytest

from portrait.metrics.correlation import correlation
from portrait.metrics.lip_aperture import lip_aperture
from portrait.synthetic import render_for_audio


def test_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, 3 * a + 2) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)


def test_a_constant_has_no_correlation() -> None:
    assert np.isnan(correlation(np.ones(9), np.arange(9.0)))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="a and b"):
        correlation(np.zeros(3), np.zeros(4))


def test_a_mouth_follows_its_own_track_and_not_another() -> None:
    rng = np.random.default_rng(5)
    opening = np.clip(np.convolve(rng.uniform(-1, 1.6, 60), np.hanning(7) / 3, mode="same"), 0, 1)
    clip = render_for_audio(70_001, np.zeros(0, np.float32), opening, size=128)
    measured = lip_aperture(clip.frames)
    assert measured.shape == (60,)
    assert correlation(measured, opening) > 0.95
    assert abs(correlation(measured, rng.permutation(opening))) < 0.5

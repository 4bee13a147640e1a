"""The Fréchet distance against closed forms and SciPy's matrix square root."""

import numpy as np
import pytest
import scipy.linalg

from portrait.metrics.frechet import Moments, frechet_distance


def _moments(mean, covariance, count=10):
    covariance = np.asarray(covariance, np.float64)
    return Moments(count=count, mean=np.asarray(mean, np.float64), scatter=covariance * (count - 1))


def test_independent_gaussians_have_a_closed_form():
    mean_a, mean_b = np.array([0.0, 1.0, -2.0]), np.array([3.0, 1.0, 0.0])
    std_a, std_b = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 3.0])
    expected = ((mean_a - mean_b) ** 2).sum() + ((std_a - std_b) ** 2).sum()
    found = frechet_distance(_moments(mean_a, np.diag(std_a**2)), _moments(mean_b, np.diag(std_b**2)))
    assert found == pytest.approx(expected, rel=1e-12)


def test_correlated_gaussians_agree_with_scipys_square_root():
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((2, 6, 6))
    cov_a, cov_b = roots @ roots.transpose(0, 2, 1)
    mean_a, mean_b = rng.standard_normal((2, 6))
    overlap = np.trace(scipy.linalg.sqrtm(cov_a @ cov_b)).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    found = frechet_distance(_moments(mean_a, cov_a), _moments(mean_b, cov_b))
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_set_is_at_distance_zero_from_itself_even_with_fewer_samples_than_features():
    features = np.random.default_rng(1).standard_normal((5, 40))
    assert frechet_distance(Moments.of(features), Moments.of(features)) == pytest.approx(0, abs=1e-6)


def test_a_shift_costs_its_squared_length():
    features = np.random.default_rng(2).standard_normal((30, 4))
    shift = np.array([1.0, -2.0, 0.0, 0.5])
    found = frechet_distance(Moments.of(features), Moments.of(features + shift))
    assert found == pytest.approx((shift**2).sum(), rel=1e-9)


def test_merged_moments_are_those_of_the_whole_set():
    features = np.random.default_rng(3).standard_normal((25, 7)) + 100
    merged = Moments.of(features[:4]).merge(Moments.of(features[4:5])).merge(Moments.of(features[5:]))
    assert merged.count == 25
    np.testing.assert_allclose(merged.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((0, 3)), r"found shape \[0, 3\]"),
        (np.zeros(3), r"found shape \[3\]"),
        (np.array([[np.nan, 0.0]]), "not finite"),
    ],
)
def test_what_has_no_moments_is_refused(features, message):
    with pytest.raises(ValueError, match=message):
        Moments.of(features)


def test_one_sample_has_no_covariance():
    one = Moments.of(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="found 1 samples, expected at least 2"):
        frechet_distance(one, one)


def test_features_of_different_networks_are_refused():
    with pytest.raises(ValueError, match="3 and 4 dimensions"):
        frechet_distance(_moments(np.zeros(3), np.eye(3)), _moments(np.zeros(4), np.eye(4)))

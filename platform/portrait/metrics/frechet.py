"""Fréchet distance between two sets of features, each modelled as a Gaussian (Dowson and Landau 1982).

d²(N₁, N₂) = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½). Letters: `N` samples, `D` features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Count, mean and scatter of a set of features; mergeable, so that the set never has to be in memory at once."""

    count: int
    """N, the number of samples."""
    mean: NDArray[np.float64]
    """[D]."""
    scatter: NDArray[np.float64]
    """[D, D], the sum of the outer products of the deviations from the mean."""

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """The moments of features [N, D].

        Raises:
            ValueError: the array is not [N, D] with N ≥ 1, or holds values that are not finite.
        """
        x = np.asarray(features, np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"features: found shape {list(x.shape)}, expected [N, D] with N of at least 1")
        if not np.isfinite(x).all():
            raise ValueError("features: found values that are not finite")
        mean = x.mean(axis=0)
        return cls(count=len(x), mean=mean, scatter=(x - mean).T @ (x - mean))

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        scatter = self.scatter + other.scatter
        scatter = scatter + np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count=count, mean=self.mean + apart * (other.count / count), scatter=scatter)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """[D, D], unbiased.

        Raises:
            ValueError: there are fewer than two samples.
        """
        if self.count < 2:
            raise ValueError(f"covariance: found {self.count} samples, expected at least 2")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Fréchet distance of two Gaussians, in float64.

    tr (Σ₁Σ₂)^½ is the sum of the singular values of Σ₁^½·Σ₂^½: unlike a square root of the product, which is not
    symmetric, that stays real and accurate even if the covariances are singular (fewer samples than features).

    Raises:
        ValueError: the sets have different numbers of features, or one has fewer than two samples.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {a.mean.shape[0]} and {b.mean.shape[0]} dimensions cannot be compared")
    apart = a.mean - b.mean
    product = _root(a.covariance) @ _root(b.covariance)
    overlap = np.linalg.svd(product, compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap
    return float(max(0.0, apart @ apart + spread))


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric square root of a positive semi-definite matrix; eigenvalues rounded below zero count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T

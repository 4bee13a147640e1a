"""Does one track follow another: Pearson correlation, its best lag, and the mouth against its truth.

Letters: T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portrait.metrics.lip_aperture import lip_aperture


@dataclass(frozen=True, kw_only=True)
class ApertureFollow:
    """How the measured mouth follows a given track."""

    correlation: float
    """Pearson correlation without a lag; nan when either is constant."""
    best_lag: int
    """Frames by which the mouth comes late (negative: early), where the correlation is highest."""
    best_correlation: float
    """Correlation at that lag."""
    aperture: np.ndarray
    """float32 [T], the measured gap over the picture's height."""


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two tracks [T]; nan when either is constant, for then there is none.

    Raises:
        ValueError: the tracks differ in length or have less than 2 frames.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(
            f"a and b: shapes {x.shape} and {y.shape} found, expected the same [T] with T of at least 2"
        )
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 1e-12 else float("nan")


def best_lag(a: np.ndarray, b: np.ndarray, max_lag: int) -> tuple[int, float]:
    """The lag k in -max_lag … max_lag at which a[t + k] correlates most with b[t], and the correlation there.

    A positive k means that `a` comes late. Of equal correlations the smallest lag wins.

    Raises:
        ValueError: max_lag is negative or leaves less than 2 frames.
    """
    if max_lag < 0 or len(a) - max_lag < 2:
        raise ValueError(f"max_lag: {max_lag} found for tracks of {len(a)} frames, expected 0 … {len(a) - 2}")
    best, best_value = 0, correlation(a, b)
    for k in sorted(range(-max_lag, max_lag + 1), key=abs)[1:]:
        value = correlation(a[k:], b[: len(b) - k]) if k > 0 else correlation(a[:k], b[-k:])
        if value > best_value or (np.isnan(best_value) and not np.isnan(value)):
            best, best_value = k, value
    return best, best_value


def aperture_follow(frames: np.ndarray, truth: np.ndarray, max_lag: int = 5) -> ApertureFollow:
    """Correlates the mouth's measured opening with a track: the true opening, or a sound's loudness.

    Args:
        frames: portrait crops, uint8 [T, H, W, 3].
        truth: [T], in any unit.
        max_lag: frames searched either way.

    Raises:
        ValueError: lengths differ, frames are no square uint8 pictures, or there are too few.
    """
    aperture = lip_aperture(frames)
    lag, value = best_lag(aperture, np.asarray(truth), max_lag)
    return ApertureFollow(
        correlation=correlation(aperture, np.asarray(truth)),
        best_lag=lag,
        best_correlation=value,
        aperture=aperture,
    )

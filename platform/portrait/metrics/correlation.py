"""How well one track follows another: Pearson correlation."""

from __future__ import annotations

import numpy as np


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation Σ(a−ā)(b−b̄) / √(Σ(a−ā)²·Σ(b−b̄)²) of two tracks; nan if either is constant.

    Args:
        a, b: [T], one value per frame in any unit.

    Raises:
        ValueError: the tracks differ in length or have fewer than 2 frames.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(
            f"a and b: found shapes {x.shape} and {y.shape}, expected the same [T] with T of at least 2"
        )
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum() / scale) if scale > 1e-12 else float("nan")

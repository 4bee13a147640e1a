"""How often training visits each source, and up to which picture size (design: "Tables")."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SourceMix:
    """Sources that are not named are visited once an epoch, at any size."""

    weights: dict[str, float] = field(default_factory=dict)
    """How many times as often a source's clips are visited as those of a source of weight 1."""
    max_size: dict[str, int] = field(default_factory=dict)
    """Largest side of pictures, in pixels, that a source's clips are used for: VoxCeleb2 was 224² at its origin."""

    def __post_init__(self) -> None:
        for source, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight of source {source!r} must be 0 or more, got {weight}")
        for source, size in self.max_size.items():
            if size < 1:
                raise ValueError(f"largest size of source {source!r} must be positive, got {size}")

    def allows(self, source: str, size: int = 1) -> bool:
        """Whether a source's clips are used, for pictures of so many pixels a side."""
        return self.weights.get(source, 1.0) > 0 and size <= self.max_size.get(source, size)

    def row_weights(self, sources: Sequence[str]) -> list[float] | None:
        """Weights of rows by their sources; None where all are alike."""
        weights = [self.weights.get(source, 1.0) for source in sources]
        return weights if len(set(weights)) > 1 else None

    def check(self, known: Sequence[str], where: str) -> None:
        """Whether every source that is named is there.

        Raises:
            ValueError: one is not.
        """
        for source in (*self.weights, *self.max_size):
            if source not in known:
                there = ", ".join(sorted(set(known))) or "none"
                raise ValueError(f"{where} holds no clip of source {source!r} (there: {there})")


EVERY_SOURCE = SourceMix()
"""All sources alike."""

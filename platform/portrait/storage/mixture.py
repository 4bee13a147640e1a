"""How often training visits the clips of each source, and up to which picture size it uses them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SourceMix:
    """Weights and size limits of sources; a source that is not named has weight 1 and no limit."""

    weights: dict[str, float] = field(default_factory=dict)
    """How many times as often a source's clips are visited as those of a source with weight 1."""
    max_size: dict[str, int] = field(default_factory=dict)
    """Largest side of pictures in pixels for which a source's clips are used (VoxCeleb2 is 224² at its origin)."""

    def __post_init__(self) -> None:
        for source, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight of source {source!r} must be 0 or more, got {weight}")
        for source, size in self.max_size.items():
            if size < 1:
                raise ValueError(f"largest size of source {source!r} must be positive, got {size}")

    def allows(self, source: str, size: int = 1) -> bool:
        """Whether a source's clips are used for pictures of `size` pixels per side."""
        return self.weights.get(source, 1.0) > 0 and size <= self.max_size.get(source, size)

    def row_weights(self, sources: Sequence[str]) -> list[float] | None:
        """The weight of each row, by its source; None if all are equal."""
        weights = [self.weights.get(source, 1.0) for source in sources]
        return weights if len(set(weights)) > 1 else None

    def check(self, known: Sequence[str], where: str) -> None:
        """Makes sure that every source that is named exists.

        Args:
            known: the sources of all rows.
            where: the table, for the error message.

        Raises:
            ValueError: a source has no clip.
        """
        for source in (*self.weights, *self.max_size):
            if source not in known:
                found = ", ".join(sorted(set(known))) or "no clips"
                raise ValueError(f"{where} holds no clip of source {source!r}; its sources: {found}")


EVERY_SOURCE = SourceMix()
"""All sources with the same weight, at any size."""

"""Quality thresholds for clips. All of them are off by default, except the one for other faces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds on the quality columns; a clip that misses one is rejected, and the report says by how much."""

    min_face_size: float | None = None
    """Minimum median width of the face, in pixels of the footage."""
    min_sharpness: float | None = None
    """Minimum variance of the Laplacian of the stored face, in squared grey levels."""
    min_motion: float | None = None
    """Minimum mean difference of neighbouring frames, in levels of 0…255; still images are below about 0.2."""
    max_motion: float | None = None
    """Maximum mean difference of neighbouring frames; shaking cameras and cuts exceed it."""
    min_brightness: float | None = None
    """Minimum mean level of the face, 0…255."""
    max_brightness: float | None = None
    """Maximum mean level of the face, 0…255."""
    max_other_faces: float | None = 0.2
    """Maximum share of the examined frames with another lasting face, 0…1; above it, it is unclear who speaks."""
    min_speech_ratio: float | None = None
    """Minimum share of the time in which someone speaks, 0…1."""
    min_sync_confidence: float | None = None
    """Minimum confidence of SyncNet; clips that were not measured are rejected."""
    max_sync_offset: float | None = None
    """Maximum absolute offset between lips and sound in frames, by SyncNet; clips that were not measured are
    rejected."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None and math.isnan(value):
                raise ValueError(f"filters: {field.name} must be a number, got {value}")
        for name in ("motion", "brightness"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"filters: min_{name} must be at most max_{name}, got {low} and {high}")

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why a row of the clips table is rejected; None if it passes."""
        for name, bound, column, value in self._checks(row):
            if value is None:
                return f"{column} was not measured ({name} {bound:g})"
            size = abs(value) if column == "sync_offset" else value
            if name.startswith("min_") and size < bound:
                return f"{column} {value:.3g}, expected at least {bound:g}"
            if name.startswith("max_") and size > bound:
                return f"{column} {value:.3g}, expected at most {bound:g}"
        return None

    def _checks(self, row: Mapping[str, Any]) -> Iterator[tuple[str, float, str, float | None]]:
        """Yields (name of the threshold, threshold, column, the row's value) for every threshold that is set."""
        for field in fields(self):
            bound = getattr(self, field.name)
            if bound is not None:
                column = field.name.split("_", 1)[1]
                yield field.name, bound, column, row[column]

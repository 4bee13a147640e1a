"""Which clips are good enough, by their quality columns; every threshold but a second face's is off until it is set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Thresholds; a clip that misses one is left out, and the report says by how much."""

    min_face_size: float | None = None
    """Least median width of the face, in pixels of the footage."""
    min_sharpness: float | None = None
    """Least variance of the Laplacian of the stored face, squared grey levels."""
    min_motion: float | None = None
    """Least mean difference of neighbouring frames, levels of 0 … 255: stills are below about 0.2."""
    max_motion: float | None = None
    """Greatest one: shaking cameras and cuts are above."""
    min_brightness: float | None = None
    """Least mean level of the face, 0 … 255 …"""
    max_brightness: float | None = None
    """… and the greatest one."""
    max_other_faces: float | None = 0.2
    """Greatest share of the examined frames with another lasting face, 0 … 1: more, and it is not sure who speaks."""
    min_speech_ratio: float | None = None
    """Least share of the time in which someone speaks, 0 … 1."""
    min_sync_confidence: float | None = None
    """Least confidence of a SyncNet; clips without one are left out."""
    max_sync_offset: float | None = None
    """Greatest distance of the lips from the sound in frames, by a SyncNet; clips without one are left out."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None and math.isnan(value):
                raise ValueError(f"filters: {field.name} must be a number, got {value}")
        for name in ("motion", "brightness"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"filters: min_{name} must be at most max_{name}, got {low} and {high}")

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why a row of the clips table is left out; None where it is not."""
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
        """(threshold's name, its value, column, the row's value) of every threshold that is set."""
        for field in fields(self):
            bound = getattr(self, field.name)
            if bound is not None:
                column = field.name.split("_", 1)[1]
                yield field.name, bound, column, row[column]

"""How footage is cut to clips, as one value that is hashed into every clip id."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from data_prep.filters import Filters
from portrait.metrics.synchrony import MAX_OFFSET
from portrait.metrics.syncnet import checksum


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """How footage is cut to clips. Footage and settings determine a clip, so its id is a hash of both."""

    size: int
    """Side of the stored portrait crop in pixels."""
    framing: Literal["portrait", "head"] = "portrait"
    """What the crop shows: head and shoulders, or the head only."""
    max_clip_seconds: float = 10.0
    """Longest clip; longer footage is cut into several."""
    min_clip_seconds: float = 1.0
    """Shortest clip; shorter parts are dropped."""
    shot_threshold: float | None = 3.0
    """A shot starts at a frame that changes this many times as much as the frames around it; None disables shot
    detection."""
    crf: int = 18
    """H.264 constant rate factor: 18 is visually lossless, larger values give smaller files."""
    detect_every: int = 5
    """The face detector examines every n-th frame."""
    min_face_found: float = 0.5
    """Minimum share of the examined frames in which a face must be found, 0…1."""
    detector: str | None = None
    """ONNX file of a YuNet detector; None for the embedded one."""
    syncnet: str | None = None
    """SyncNet weights (syncnet_v2.model) to measure every clip with; None uses what the source knows."""
    align_sound: bool = False
    """Whether to shift the sound by the measured offset so that it matches the lips."""
    filters: Filters = field(default_factory=Filters)
    """Quality thresholds for clips."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise ValueError(f"size must be an even number of at least 16, got {self.size}")
        if not 0 < self.min_clip_seconds <= self.max_clip_seconds:
            raise ValueError(
                f"min_clip_seconds must be above 0 and at most max_clip_seconds ({self.max_clip_seconds}), "
                f"got {self.min_clip_seconds}"
            )
        if self.shot_threshold is not None and self.shot_threshold <= 1:
            raise ValueError(f"shot_threshold must be above 1, got {self.shot_threshold}")
        for name, least in (("detect_every", 1), ("crf", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.min_face_found <= 1:
            raise ValueError(f"min_face_found must be in 0 … 1, got {self.min_face_found}")
        if self.align_sound:
            sure, most = self.filters.min_sync_confidence, self.filters.max_sync_offset
            if sure is None or sure <= 0 or most is None or most >= MAX_OFFSET:
                raise ValueError(
                    "align_sound needs filters.min_sync_confidence above 0 (3 is usual) and filters.max_sync_offset "
                    f"below {MAX_OFFSET} (6 is usual): an uncertain offset, or one at the edge of SyncNet's search "
                    "range, would move the sound away from the lips"
                )

    def stored(self) -> dict[str, Any]:
        """The settings as a table stores them: networks by the checksums of their files, not by their paths."""
        values = asdict(self)
        # Under their names of the first version: these are hashed into clip ids, which must not change.
        values["filters"]["max_rivals"] = values["filters"].pop("max_other_faces")
        values["native"] = False
        for name in ("detector", "syncnet"):
            if (path := values[name]) is not None:
                values[name] = f"{Path(path).name} {_checksum(path)[:16]}"
        return values

    def digest(self) -> str:
        """Hash of the settings, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.stored(), sort_keys=True).encode()).hexdigest()[:16]


_checksum = lru_cache(maxsize=8)(checksum)
"""Cached because every clip id needs it."""

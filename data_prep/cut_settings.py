"""How footage becomes clips, as one value that is hashed into every clip's id."""

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
    """How footage becomes clips. Together with the footage it determines a clip, so its id holds a hash of both."""

    size: int
    """Side of the portrait crop as stored, in pixels."""
    framing: Literal["portrait", "head"] = "portrait"
    """What the crop shows: head and shoulders, or the head alone."""
    max_clip_seconds: float = 10.0
    """Longer footage is cut to clips of this length."""
    min_clip_seconds: float = 1.0
    """Shorter rests are left out."""
    shot_threshold: float | None = 3.0
    """A shot begins where a frame changes so many times as much as those around it; None looks for none."""
    crf: int = 18
    """H.264 constant rate factor: 18 is visually lossless, larger is smaller."""
    detect_every: int = 5
    """The face is looked for in every n-th frame."""
    min_face_found: float = 0.5
    """Least share of the examined frames in which there must be a face."""
    detector: str | None = None
    """ONNX file of a YuNet detector; None for the embedded one."""
    syncnet: str | None = None
    """SyncNet's weights (syncnet_v2.model), which measure every clip; None leaves that to what the source knows."""
    align_sound: bool = False
    """Whether the sound is moved by the offset of the lips, so that both go together."""
    filters: Filters = field(default_factory=Filters)
    """Which clips are good enough."""

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2:
            raise ValueError(f"size must be an even number from 16 on, got {self.size}")
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
                    f"below {MAX_OFFSET} (6 is usual): an offset that SyncNet is not sure of, or at the edge of its "
                    "search, would tear lips and sound apart"
                )

    def stored(self) -> dict[str, Any]:
        """The settings as a table keeps them: networks by what is in their files, wherever these lie."""
        values = asdict(self)
        # Under their names of the first version: these are hashed into clip ids, which must not change.
        values["filters"]["max_rivals"] = values["filters"].pop("max_other_faces")
        values["native"] = False
        for name in ("detector", "syncnet"):
            if (path := values[name]) is not None:
                values[name] = f"{Path(path).name} {_checksum(path)[:16]}"
        return values

    def digest(self) -> str:
        """Hash of the settings."""
        return hashlib.sha256(json.dumps(self.stored(), sort_keys=True).encode()).hexdigest()[:16]


_checksum = lru_cache(maxsize=8)(checksum)
"""A clip's id asks for it every time."""

"""Rows for the clips table without any video library: a test that needs pictures encodes its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def clip_row() -> Callable[..., dict[str, Any]]:
    def make(clip_id: str, **changes: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "clip_id": clip_id,
            "source": "test",
            "identity": "someone",
            "split": "train",
            "video": b"video of " + clip_id.encode(),
            "audio": b"audio of " + clip_id.encode(),
            "num_frames": 5,
            "fps": 25.0,
            "height": 32,
            "width": 32,
            "crop_box": [0.0, 0.0, 32.0],
            "face_boxes": [[1.0, 2.0, 3.0, 4.0]] * 5,
            "sharpness": 1.0,
            "motion": 1.0,
            "face_size": 3.0,
            "face_found": 1.0,
            "speech_ratio": 0.5,
            "sync_confidence": None,
            "sync_offset": None,
            "provenance": {"path": "a.mp4", "content": "c", "start_s": 0.0, "end_s": 0.2, "licence": None},
            "brightness": 120.0,
            "other_faces": 0.0,
        }
        return {**row, **changes}

    return make

"""One file of footage to rows of the `clips` table: read, find the face, crop, cut to clips, encode.

Frames are held for one clip at a time, so that memory does not grow with a file's length. Letters: T frames, H W.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_prep import quality
from data_prep.filters import Filters
from data_prep.sources import Footage
from portrait.faces import (
    FaceDetector,
    HaarDetector,
    NoFaceError,
    YuNetDetector,
    apply_crop,
    portrait_crop,
    track_faces,
)
from portrait.media.audio import SAMPLE_RATE, encode_flac
from portrait.media.video import encode_video, iter_frames, probe, read_soundtrack
from portrait.storage.clips import GROUP_OF_PICTURES

FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
LONGEST_SIDE = 1920
"""Larger pictures are halved as they are read: ten seconds of them must fit into memory."""


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """How footage becomes clips. Together with the footage it determines a clip, so its id holds a hash of both."""

    size: int
    """Side of the portrait crop as stored, in pixels."""
    max_clip_seconds: float = 10.0
    """Longer footage is cut to clips of this length."""
    min_clip_seconds: float = 1.0
    """Shorter rests are left out."""
    crf: int = 18
    """H.264 constant rate factor: 18 is visually lossless, larger is smaller."""
    detect_every: int = 5
    """The face is looked for in every n-th frame."""
    min_face_found: float = 0.5
    """Least share of the examined frames in which there must be a face."""
    detector: str | None = None
    """ONNX file of a YuNet detector; None for the embedded one."""
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
        for name, least in (("detect_every", 1), ("crf", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.min_face_found <= 1:
            raise ValueError(f"min_face_found must be in 0 … 1, got {self.min_face_found}")

    def digest(self) -> str:
        """Hash of the settings."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Footage that was left out."""

    path: str
    """The file."""
    reason: str
    """Why, in words."""
    start_s: float | None = None
    """Beginning of the part that was left out; None for the whole file."""
    end_s: float | None = None
    """Its end."""

    @property
    def kind(self) -> str:
        """The reason without its numbers, so that like ones can be counted together."""
        return re.sub(r"[0-9]+(\.[0-9]+)?", "#", self.reason)

    def __str__(self) -> str:
        part = "" if self.start_s is None else f" [{self.start_s:.1f}–{self.end_s:.1f} s]"
        return f"{self.path}{part}: {self.reason}"


def content_hash(path: str) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cut_file(
    footage: Footage, content: str, split: str, settings: CutSettings
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Rows of one file and the parts of it that were left out.

    A damaged file gives no rows at all; a part without a face leaves the other parts.

    Args:
        footage: the file.
        content: its hash.
        split: split of its identity.
        settings: how to cut.
    """
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    try:
        audio = _soundtrack(footage.path)
        for first_frame, frames in _stretches(footage.path, settings):
            try:
                row = _portrait_row(frames, audio, first_frame, settings, footage.path)
                reason = settings.filters.reason(row)
            except NoFaceError as error:
                row, reason = {}, _reason(error, footage.path)
            if reason is not None:
                start, end = first_frame / FPS, (first_frame + len(frames)) / FPS
                rejects.append(Reject(path=footage.path, reason=reason, start_s=start, end_s=end))
                continue
            rows.append(
                {**row, **_origin(footage, content, settings, first_frame, len(frames)), "split": split}
            )
    except (ValueError, FileNotFoundError, PermissionError, cv2.error) as error:
        return [], [Reject(path=footage.path, reason=_reason(error, footage.path))]
    if not rows and not rejects:
        return [], [Reject(path=footage.path, reason=f"shorter than {settings.min_clip_seconds:g} s")]
    return rows, rejects


def _stretches(path: str, settings: CutSettings) -> Iterator[tuple[int, list[np.ndarray]]]:
    """(first frame, T frames uint8 [H, W, 3]) of the clips-to-be, T = 1 + a multiple of 4."""
    longest = round(settings.max_clip_seconds * FPS)
    shortest = max(1, round(settings.min_clip_seconds * FPS))
    first: int = 0
    held: list[np.ndarray] = []
    for frame in iter_frames(path, FPS):
        held.append(_bounded(frame))
        if len(held) == longest:
            yield first, held[: _trimmed(longest)]
            first, held = first + longest, []
    if len(held) >= shortest:
        yield first, held[: _trimmed(len(held))]


def _trimmed(num_frames: int) -> int:
    return 1 + (num_frames - 1) // 4 * 4


def _bounded(frame: np.ndarray) -> np.ndarray:
    while max(frame.shape[:2]) > LONGEST_SIDE:
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = cv2.resize(frame, half, interpolation=cv2.INTER_AREA)
    return frame


def _portrait_row(
    frames: list[np.ndarray], audio: np.ndarray, first_frame: int, settings: CutSettings, name: str
) -> dict[str, Any]:
    """The columns that are made of pictures and sound."""
    num_frames = len(frames)
    track = track_faces(frames, _detector(settings.detector), every=settings.detect_every, name=name)
    if track.found < settings.min_face_found:
        raise NoFaceError(
            f"{name}: a face in only {track.found:.0%} of the frames looked at, expected {settings.min_face_found:.0%}"
        )
    crop = portrait_crop(track, frames[0].shape[:2])
    portrait = apply_crop(frames, crop, settings.size)
    scale = settings.size / crop.size
    boxes = (track.boxes - np.array([crop.x0, crop.y0, 0, 0], np.float32)) * np.float32(scale)
    sound = audio[first_frame * SAMPLES_PER_FRAME : (first_frame + num_frames) * SAMPLES_PER_FRAME]
    sound = np.pad(sound, (0, num_frames * SAMPLES_PER_FRAME - len(sound)))
    return {
        "video": encode_video(portrait, FPS, gop=GROUP_OF_PICTURES, crf=settings.crf),
        "audio": encode_flac(sound),
        "num_frames": num_frames,
        "fps": float(FPS),
        "height": settings.size,
        "width": settings.size,
        "crop_box": [float(crop.x0), float(crop.y0), float(crop.size)],
        "face_boxes": boxes.tolist(),
        "sharpness": quality.sharpness(portrait, boxes),
        "motion": quality.motion(portrait),
        "face_size": float(np.median(track.boxes[:, 2])),
        "face_found": track.found,
        "speech_ratio": quality.speech_ratio(sound),
        "sync_confidence": None,
        "sync_offset": None,
    }


def _origin(
    footage: Footage, content: str, settings: CutSettings, first_frame: int, num_frames: int
) -> dict[str, Any]:
    """The columns that say what a clip is and where it came from."""
    key = f"{content}:{first_frame}:{num_frames}:{settings.digest()}"
    return {
        "clip_id": hashlib.sha256(key.encode()).hexdigest()[:24],
        "source": footage.source,
        "identity": footage.identity,
        "provenance": {
            "path": footage.path,
            "content": content,
            "start_s": first_frame / FPS,
            "end_s": (first_frame + num_frames) / FPS,
            "licence": footage.licence,
        },
    }


@lru_cache(maxsize=2)
def _detector(weights: str | None) -> FaceDetector:
    return HaarDetector() if weights is None else YuNetDetector(weights)


def _soundtrack(path: str) -> np.ndarray:
    """The file's sound on the clock of its pictures, float32 [S]."""
    audio = read_soundtrack(path) if probe(path).has_audio else None
    if audio is None:
        raise ValueError("no audio track")
    return audio


def _reason(error: Exception, path: str) -> str:
    """An error's words in one line, without the file's name, which a reject has beside."""
    return " ".join(str(error).split()).removeprefix(f"{path}: ") or type(error).__name__

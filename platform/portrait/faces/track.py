"""One face over a clip: detections linked by overlap, gaps filled, jitter smoothed.

Letters: `T` frames; boxes are (x, y, w, h) in pixels, as `detector.Face` means them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from portrait.faces.detector import Face, FaceDetector, NoFaceError
from portrait.timing import FRAME_RATE

_MIN_OVERLAP = 0.25
_SMOOTHING_SECONDS = 0.4
_OTHER_WIDTH = 0.6
"""Another face counts if it is at least this many times as wide as the main one."""


@dataclass(frozen=True, kw_only=True)
class FaceTrack:
    """Where the clip's main face is in every frame."""

    boxes: np.ndarray
    """float32 [T, 4]: (x, y, w, h) per frame, smoothed."""
    found: float
    """Share of the searched frames in which this face was detected, 0…1."""
    other_faces: float
    """Share of the searched frames with another lasting face at least 60 % as wide: two people in the picture."""


@dataclass
class _Chain:
    """Detections of one person, in order of time."""

    times: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)


def track_faces(
    frames: Sequence[np.ndarray] | np.ndarray,
    detector: FaceDetector,
    every: int = 5,
    *,
    name: str = "clip",
    fps: int = FRAME_RATE,
) -> FaceTrack:
    """Follows the clip's main face: the one that is large and confidently detected for longest.

    Args:
        frames: RGB uint8 [H, W, 3]; only the frames that are searched are accessed, each once.
        detector: finds faces in single frames.
        every: search every so many frames; positions between them are interpolated.
        name: what to call the clip in errors.
        fps: frames per second, for the smoothing.

    Returns:
        The track, one box per frame.

    Raises:
        NoFaceError: no face in any searched frame.
        ValueError: no frames.
    """
    chains: list[_Chain] = []
    searched, length = 0, len(frames)
    for index in range(0, length, every):
        searched += 1
        _link(chains, index, detector.detect(frames[index]), patience=max(fps, 2 * every))
    if not length:
        raise ValueError(f"{name}: expected at least one frame, found none")
    if not chains:
        raise NoFaceError(f"{name}: no face found ({searched} of {length} frames searched)")
    main, others = _main_chain(chains)
    width = np.median([face.w for face in main.faces])
    lasting = [chain for chain in others if len(chain.times) >= max(2, searched // 5)]
    other_times = {
        t for c in lasting for t, face in zip(c.times, c.faces, strict=True) if face.w >= _OTHER_WIDTH * width
    }
    return FaceTrack(
        boxes=_fill(main, length, window=round(_SMOOTHING_SECONDS * fps)),
        found=len(main.times) / searched,
        other_faces=len(other_times) / searched,
    )


def _weight(chain: _Chain) -> float:
    """Score of a chain as the main face: by size, confidence and length."""
    return sum(face.w * face.score for face in chain.faces)


def _link(chains: list[_Chain], time: int, faces: list[Face], patience: int) -> None:
    """Appends each detection to the recent chain that it overlaps most, or begins a new chain."""
    free = [chain for chain in chains if time - chain.times[-1] <= patience]
    for face in faces:
        best = max(free, key=lambda chain: overlap(chain.faces[-1], face), default=None)
        if best is None or overlap(best.faces[-1], face) < _MIN_OVERLAP:
            best = _Chain()
            chains.append(best)
        else:
            free.remove(best)
        best.times.append(time)
        best.faces.append(face)


def _main_chain(chains: list[_Chain]) -> tuple[_Chain, list[_Chain]]:
    """The chain with the highest score, joined with those in the same place at other times; and all other chains.

    A head that turns away and comes back, or a nod that is too quick for the linking, breaks a chain although it is
    the same person.
    """
    best = max(chains, key=_weight)
    typical = median_face(best.faces)
    times = set(best.times)
    joined = list(zip(best.times, best.faces, strict=True))
    others: list[_Chain] = []
    for chain in chains:
        if chain is best:
            continue
        elsewhere = overlap(median_face(chain.faces), typical) < _MIN_OVERLAP
        if elsewhere or times & set(chain.times):
            others.append(chain)
            continue
        joined += zip(chain.times, chain.faces, strict=True)
        times |= set(chain.times)
    joined.sort(key=lambda pair: pair[0])
    return _Chain(times=[time for time, _ in joined], faces=[face for _, face in joined]), others


def median_face(faces: list[Face]) -> Face:
    """The typical one of several boxes of a face: the median of centres and sizes."""
    x, y, w, h = np.median([(*f.centre, f.w, f.h) for f in faces], axis=0)
    return Face(
        x=float(x - w / 2),
        y=float(y - h / 2),
        w=float(w),
        h=float(h),
        score=max(face.score for face in faces),
    )


def overlap(a: Face, b: Face) -> float:
    """Intersection over union of two boxes, 0…1."""
    width = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    height = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a.w * a.h + b.w * b.h - width * height)


def _fill(chain: _Chain, length: int, window: int) -> np.ndarray:
    """Boxes for all frames: outliers removed by a running median, interpolated, smoothed by a Hann window."""
    raw = np.array([(f.x + f.w / 2, f.y + f.h / 2, f.w, f.h) for f in chain.faces], np.float64)
    padded = np.pad(raw, ((1, 1), (0, 0)), mode="edge")
    steady = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    every_frame = np.stack([np.interp(np.arange(length), chain.times, column) for column in steady.T], axis=1)
    half = max(window // 2, 1)
    kernel = np.hanning(2 * half + 3)[1:-1]
    kernel /= kernel.sum()
    spread = np.pad(every_frame, ((half, half), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, kernel, mode="valid") for column in spread.T], axis=1)
    smooth[:, :2] -= smooth[:, 2:] / 2
    return smooth.astype(np.float32)

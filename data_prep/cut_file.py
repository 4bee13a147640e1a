"""Cuts one piece of footage to rows of the `clips` table: decode, find shots and the face, crop, encode.

Frames are held for one clip at a time, so that memory does not grow with the length of a file. Letters: T frames,
H height, W width, S audio samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import av.error
import cv2
import numpy as np

from data_prep import quality
from data_prep.cut_settings import CutSettings
from data_prep.rejects import Reject
from data_prep.shots import LOOKAHEAD, WIDTH, ShotDetector
from data_prep.sources.footage import Footage
from data_prep.speech_activity import speech_ratio
from data_prep.stills import Still, split_stills
from data_prep.synchrony import sync_of, syncnet
from portrait.faces import (
    HEAD,
    PORTRAIT,
    FaceDetector,
    FaceTrack,
    NoFaceError,
    YuNetDetector,
    portrait_crop,
    track_faces,
)
from portrait.media.audio import encode_flac
from portrait.media.mp4 import encode_video
from portrait.media.planar_frame import PlanarFrame, ReducedFrames, grey_levels
from portrait.media.soundtrack import read_soundtrack
from portrait.media.video import iter_planar_frames
from portrait.metrics.synchrony import MAX_OFFSET
from portrait.storage.clips import GROUP_OF_PICTURES
from portrait.timing import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME, whole_latent_frames

LONGEST_SIDE = 1920
"""Larger frames are halved as they are read: ten seconds of them must fit into memory."""

_STILL_SECONDS = 2.0
"""A picture that stands for this long ends a shot; people filmed at the lowest usual rates move more often."""


class _NoSoundError(ValueError):
    """The sound ends before the clip does."""


@dataclass
class _Stretch:
    """Frames that may become a clip."""

    first: int
    """Number of the first frame, counted from the start of the file at 25 frames/s."""
    frames: list[PlanarFrame]
    """T frames, T = 1 + a multiple of 4."""
    region: tuple[int, int, int, int]
    """(x, y, width, height) of the region that contains the person, in pixels of these frames."""


def cut_file(
    footage: Footage, content: str, split: str, settings: CutSettings
) -> tuple[list[dict[str, Any]], list[Reject]]:
    """Cuts one file.

    Args:
        footage: the file, or a part of one.
        content: hash of its content.
        split: split of its identity.
        settings: how to cut it.

    Returns:
        Rows for the clips table, and the rejected parts. A damaged file is rejected as a whole, whereas a part without
        a face does not affect the other parts.

    Raises:
        FileNotFoundError: as `load_networks`.
        ValueError: as `load_networks`.
    """
    load_networks(settings)
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    try:
        media = footage.media()
        audio = _soundtrack(media, footage)
        for stretch in _stretches(media, footage, settings):
            if isinstance(stretch, Still):
                rejects.append(_still_reject(stretch, footage.label))
                continue
            try:
                _check_sound(stretch, audio, footage.label)
                row = _portrait_row(stretch, audio, settings, footage)
                reason = settings.filters.reason(row)
            except (NoFaceError, _NoSoundError) as error:
                row, reason = {}, _reason(error, footage.label)
            if reason is not None:
                start, end = stretch.first / FRAME_RATE, (stretch.first + len(stretch.frames)) / FRAME_RATE
                rejects.append(Reject(path=footage.label, reason=reason, start_s=start, end_s=end))
                continue
            rows.append({**row, **_origin(footage, content, settings, stretch), "split": split})
    except (ValueError, OSError, cv2.error, av.error.FFmpegError) as error:
        unread = isinstance(error, OSError)
        return [], [Reject(path=footage.label, reason=_reason(error, footage.label), retry=unread)]
    if not rows and not rejects:
        return [], [Reject(path=footage.label, reason=f"shorter than {settings.min_clip_seconds:g} s")]
    return rows, rejects


def _still_reject(still: Still, label: str) -> Reject:
    start, seconds = still.first / FRAME_RATE, still.num_frames / FRAME_RATE
    reason = f"the picture stands still for {seconds:.1f} s"
    return Reject(path=label, reason=reason, start_s=start, end_s=start + seconds)


def _stretches(media: str | bytes, footage: Footage, settings: CutSettings) -> Iterator[_Stretch | Still]:
    """Yields the shots in pieces no longer than a clip may be, and the parts that stand still, one after another."""
    begin = round(footage.start_s * FRAME_RATE)
    seconds = None if footage.end_s is None else footage.end_s - footage.start_s
    frames = iter_planar_frames(
        media, FRAME_RATE, start_s=begin / FRAME_RATE, max_seconds=seconds, name=footage.label
    )
    for part in split_stills(frames, round(_STILL_SECONDS * FRAME_RATE)):
        if isinstance(part, Still):
            yield replace(part, first=begin + part.first)
        else:
            yield from _shots(part.frames, begin + part.first, footage, settings)


def _shots(
    frames: Iterator[PlanarFrame], beginning: int, footage: Footage, settings: CutSettings
) -> Iterator[_Stretch]:
    """Yields the shots of frames, the first of which is number `beginning` of the file."""
    longest = round(settings.max_clip_seconds * FRAME_RATE)
    shortest = max(1, round(settings.min_clip_seconds * FRAME_RATE))
    shots = None if settings.shot_threshold is None else ShotDetector(settings.shot_threshold, FRAME_RATE)
    first = beginning
    held: list[PlanarFrame] = []
    scale = 1

    def stretch(length: int) -> _Stretch:
        frames = held[: whole_latent_frames(length)]
        region = (0, 0, frames[0].width, frames[0].height)
        if footage.region is not None:
            x, y, w, h = footage.region
            region = (x // scale, y // scale, w // scale, h // scale)
        return _Stretch(first=first, frames=frames, region=region)

    for frame in frames:
        scale = _scale(frame)
        held.append(frame.shrunk(scale))
        cut = None if shots is None else shots.push(frame.reduced(WIDTH, sampled=True))
        if cut is not None:
            length = beginning + cut - first
            if length >= shortest:
                yield stretch(length)
            first, held = first + length, held[length:]
        elif len(held) == longest + (LOOKAHEAD if shots else 0):
            yield stretch(longest)
            first, held = first + longest, held[longest:]
    for cut in shots.finish() if shots else ():
        length = beginning + cut - first
        if length >= shortest:
            yield stretch(min(length, longest))
        first, held = first + length, held[length:]
    if len(held) >= shortest:
        yield stretch(min(len(held), longest))


def _scale(frame: PlanarFrame) -> int:
    """Power of two by which a frame is reduced as it is read."""
    scale = 1
    while max(frame.height, frame.width) // scale > LONGEST_SIDE:
        scale *= 2
    return scale


def _track(stretch: _Stretch, settings: CutSettings, name: str) -> FaceTrack:
    """Tracks the face in the region that contains the person."""
    height, width = stretch.frames[0].height, stretch.frames[0].width
    x, y, w, h = stretch.region
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x0 >= x1 or y0 >= y1:
        raise NoFaceError(f"{name}: the region {x, y, w, h} is outside the {width}×{height} frame")
    detector = _detector(settings.detector)
    scale = min(1.0, detector.working_size / max(x1 - x0, y1 - y0))
    small = ReducedFrames(stretch.frames, (x0, y0, x1 - x0, y1 - y0), detector.working_size)
    track = track_faces(small, detector, every=settings.detect_every, name=name)
    if track.found < settings.min_face_found:
        raise NoFaceError(
            f"{name}: a face in only {track.found:.0%} of the examined frames, expected {settings.min_face_found:.0%}"
        )
    return replace(track, boxes=track.boxes / np.float32(scale) + np.array([x0, y0, 0, 0], np.float32))


def _portrait_row(
    stretch: _Stretch, audio: np.ndarray, settings: CutSettings, footage: Footage
) -> dict[str, Any]:
    """The columns derived from frames and sound."""
    frames, num_frames = stretch.frames, len(stretch.frames)
    track = _track(stretch, settings, footage.label)
    framing = HEAD if settings.framing == "head" else PORTRAIT
    crop = portrait_crop(track, (frames[0].height, frames[0].width), framing).even()
    size = settings.size
    portrait = [frame.square(crop.x0, crop.y0, crop.size, size) for frame in frames]
    grey = [grey_levels(frame) for frame in portrait]
    scale = size / crop.size
    boxes = (track.boxes - np.array([crop.x0, crop.y0, 0, 0], np.float32)) * np.float32(scale)
    sound = _sound_of(audio, stretch.first, num_frames)
    offset, confidence = footage.sync_offset, footage.sync_confidence
    if settings.syncnet is not None:
        sync = sync_of(frames, track.boxes, sound, settings.syncnet)
        offset, confidence = (None, None) if sync is None else (sync.offset, sync.confidence)
    if settings.align_sound and offset:
        sound = _sound_of(audio, stretch.first - offset, num_frames)
    return {
        "video": encode_video(portrait, FRAME_RATE, gop=GROUP_OF_PICTURES, crf=settings.crf),
        "audio": encode_flac(sound),
        "num_frames": num_frames,
        "fps": float(FRAME_RATE),
        "height": size,
        "width": size,
        "crop_box": [float(crop.x0), float(crop.y0), float(crop.size)],
        "face_boxes": boxes.tolist(),
        "sharpness": quality.sharpness(grey, boxes),
        "motion": quality.motion(grey),
        "face_size": float(np.median(track.boxes[:, 2])),
        "face_found": track.found,
        "brightness": quality.brightness(grey, boxes),
        "other_faces": track.other_faces,
        "speech_ratio": speech_ratio(sound),
        "sync_confidence": confidence,
        "sync_offset": offset,
    }


def _check_sound(stretch: _Stretch, audio: np.ndarray, name: str) -> None:
    """Refuses silent speech, from which a model would learn that mouths move without sound.

    Raises:
        _NoSoundError: the sound ends in the first half of the stretch.
    """
    middle = stretch.first + len(stretch.frames) / 2
    if len(audio) < middle * SAMPLES_PER_FRAME:
        raise _NoSoundError(f"{name}: the sound ends at {len(audio) / SAMPLE_RATE:.2f} s")


def _sound_of(audio: np.ndarray, first_frame: int, num_frames: int) -> np.ndarray:
    """The sound of some frames, float32 [640 · num_frames]; silence before its start and after its end."""
    first, end = first_frame * SAMPLES_PER_FRAME, (first_frame + num_frames) * SAMPLES_PER_FRAME
    sound = audio[max(0, first) : max(0, end)]
    before = min(max(0, -first), end - first)
    return np.pad(sound, (before, end - first - before - len(sound)))


def _origin(footage: Footage, content: str, settings: CutSettings, stretch: _Stretch) -> dict[str, Any]:
    """The columns that identify a clip and its origin."""
    first_frame, num_frames = stretch.first, len(stretch.frames)
    key = f"{content}:{first_frame}:{num_frames}:{settings.digest()}"
    return {
        "clip_id": hashlib.sha256(key.encode()).hexdigest()[:24],
        "source": footage.source,
        "identity": footage.identity,
        "provenance": {
            "path": footage.label,
            "content": content,
            "start_s": first_frame / FRAME_RATE,
            "end_s": (first_frame + num_frames) / FRAME_RATE,
            "licence": footage.licence,
        },
    }


@lru_cache(maxsize=2)
def _detector(weights: str | None) -> FaceDetector:
    return YuNetDetector(weights)


def load_networks(settings: CutSettings) -> None:
    """Loads the networks that the settings name, once per process, so that a missing one is not blamed on footage.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is not such a network.
    """
    _detector(settings.detector)
    if settings.syncnet is not None:
        syncnet(settings.syncnet)


def _soundtrack(media: str | bytes, footage: Footage) -> np.ndarray:
    """The file's sound on the clock of its frames, float32 [S], up to the end of the file or a little beyond the wanted
    part, by as much as `align_sound` may shift it.
    """
    most = None if footage.end_s is None else round((footage.end_s + MAX_OFFSET / FRAME_RATE) * SAMPLE_RATE)
    audio = read_soundtrack(media, max_samples=most, name=footage.label)
    if audio is None:
        raise ValueError("no audio track")
    return audio


def _reason(error: Exception, label: str) -> str:
    """The message of an error as one line, without the file name, which a reject has in a field of its own."""
    return " ".join(str(error).split()).removeprefix(f"{label}: ") or type(error).__name__

"""Sync confidence and offset of a clip by SyncNet, if its weights are given; see `portrait.metrics.synchrony`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from av.video.reformatter import VideoReformatter

from portrait.media.mp4 import rgb_pixels
from portrait.media.planar_frame import PlanarFrame
from portrait.metrics.synchrony import Synchrony, measure_synchrony, sync_square
from portrait.metrics.syncnet import FACE_SIZE, SyncNet, load_syncnet


def sync_of(
    frames: Sequence[PlanarFrame], boxes: np.ndarray, sound: np.ndarray, weights: str
) -> Synchrony | None:
    """Measures how well lips and sound match.

    Args:
        frames: T frames of the footage, 25 per second.
        boxes: float32 [T, 4], the face (x, y, w, h) in pixels of the frames.
        sound: float32 [S], 16 kHz mono, starting with the first frame.
        weights: file of SyncNet's weights, see `portrait.metrics.syncnet.load_syncnet`.

    Returns:
        Confidence and offset; None if the clip is too short to be measured.
    """
    convert = VideoReformatter()
    faces = []
    for frame, box in zip(frames, boxes, strict=True):
        square = sync_square(box).even()
        faces.append(rgb_pixels(frame.square(square.x0, square.y0, square.size, FACE_SIZE), convert))
    return measure_synchrony(syncnet(weights), np.stack(faces), sound)


@lru_cache(maxsize=1)
def syncnet(weights: str) -> SyncNet:
    """The network of a file, loaded once per process; errors as `load_syncnet`."""
    return load_syncnet(weights)

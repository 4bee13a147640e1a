"""Lips against sound by a SyncNet, where its weights are given: see `portrait.metrics.synchrony`."""

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
    pictures: Sequence[PlanarFrame], boxes: np.ndarray, sound: np.ndarray, weights: str
) -> Synchrony | None:
    """Measures a clip.

    Args:
        pictures: T pictures of the footage, 25 a second.
        boxes: float32 [T, 4], the face (x, y, w, h) in pixels of the pictures.
        sound: float32 [S], 16 kHz, from the first picture on.
        weights: SyncNet's, see `portrait.metrics.syncnet.load_syncnet`.

    Returns:
        None for a clip that is too short to be measured.
    """
    convert = VideoReformatter()
    faces = []
    for picture, box in zip(pictures, boxes, strict=True):
        square = sync_square(box).even()
        faces.append(rgb_pixels(picture.square(square.x0, square.y0, square.size, FACE_SIZE), convert))
    return measure_synchrony(syncnet(weights), np.stack(faces), sound)


@lru_cache(maxsize=1)
def syncnet(weights: str) -> SyncNet:
    """The network of a file, kept in this process; errors are `load_syncnet`'s."""
    return load_syncnet(weights)

"""Converts any YCbCr to BT.709 of limited range without a detour through RGB.

FFmpeg's scaler does that too, but rounds down: a channel is up to two levels off as a whole. Greys stay greys: chroma
depends on chroma alone, and a 4:2:0 frame needs its chroma at full size only for what it adds to the luma. Formulas:
ITU-R BT.601 and BT.709, Y = Kr·R + (1 − Kr − Kb)·G + Kb·B, Cb = (B − Y) / (2 − 2·Kb), Cr = (R − Y) / (2 − 2·Kr).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from av.video.frame import VideoFrame

from portrait.media.mp4 import BT709, LIMITED_RANGE, plane_pixels

FULL_RANGE = 2
"""FFmpeg's number for levels 0 … 255 of luma and chroma; limited range has 16 … 235 and 16 … 240."""
_BT601 = (0.299, 0.114)
_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""Kr and Kb by FFmpeg's number of the matrix; all others are BT.601's or treated as such."""


def to_bt709(frame: VideoFrame) -> VideoFrame:
    """Converts a frame to BT.709 of limited range; returns the frame itself if it is that already.

    Args:
        frame: yuv420p, tagged with its colour space and range; height and width even.
    """
    full = frame.color_range == FULL_RANGE
    if frame.colorspace == BT709 and not full:
        return frame
    y_HW, cb_hw, cr_hw = (plane_pixels(plane) for plane in frame.planes)
    levels, chroma, to_luma = _conversion(_WEIGHTS.get(frame.colorspace, _BT601), full)
    chroma_hw2 = cv2.merge([cb_hw, cr_hw])
    added_hw = cv2.transform(chroma_hw2.astype(np.float32), to_luma)
    added_HW = cv2.resize(added_hw, (frame.width, frame.height), interpolation=cv2.INTER_LINEAR)
    made = VideoFrame(frame.width, frame.height, "yuv420p")
    planes = [plane_pixels(plane) for plane in made.planes]
    planes[0][:] = cv2.add(cv2.LUT(y_HW, levels), added_HW, dtype=cv2.CV_8U)
    for plane, pixels in zip(planes[1:], cv2.split(cv2.transform(chroma_hw2, chroma)), strict=True):
        plane[:] = pixels
    made.colorspace, made.color_range = BT709, LIMITED_RANGE
    return made


@lru_cache
def _conversion(weights: tuple[float, float], full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma levels uint8 [256]; Cb and Cr out of (Cb, Cr, 1), [2, 3]; what is added to the luma, [1, 3]."""
    luma_range, chroma_range, black = (255, 255, 0) if full else (219, 224, 16)
    to_rgb = np.linalg.inv(_from_rgb(weights))
    matrix = _from_rgb(_WEIGHTS[BT709]) @ to_rgb
    luma = matrix[0, 1:] * (219 / chroma_range)
    chroma = matrix[1:, 1:] * (224 / chroma_range)
    levels = np.round((np.arange(256) - black) * (219 / luma_range) + 16)
    return (
        np.clip(levels, 0, 255).astype(np.uint8),
        np.column_stack([chroma, 128 - 128 * chroma.sum(1)]),
        np.array([[*luma, -128 * luma.sum()]]),
    )


def _from_rgb(weights: tuple[float, float]) -> np.ndarray:
    """[3, 3], (R, G, B) in [0, 1] to (Y, Cb, Cr)."""
    red, blue = weights
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack(
        [luma, (np.array([0, 0, 1]) - luma) / (2 - 2 * blue), (np.array([1, 0, 0]) - luma) / (2 - 2 * red)]
    )

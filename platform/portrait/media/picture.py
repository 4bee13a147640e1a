"""Decoded pictures in the planes that they came in: what is not looked at is never made RGB.

Of ten seconds of footage, data preparation looks at small copies, finds a face, and keeps one square. RGB of every
whole picture would take twice the memory and more time than decoding did. Letters: `H W` of the upright picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from portrait.media.colour import FULL_RANGE, to_bt709
from portrait.media.container import reason_of
from portrait.media.mp4 import BT709, EXACT_RGB, LIMITED_RANGE, plane_pixels, rgb_pixels, tag_frame

_BT601 = 5
_UNTAGGED = (0, 2)
"""FFmpeg's numbers for RGB, and for a matrix that nothing is said of."""
_PLANES = ("yuv420p", "yuvj420p")
"""Formats whose planes are taken as they are: one of luma, two of half its height and width."""
_MAX_STRETCH = 8
"""Pixels that are wider, or higher, in proportion are damage: the widest that anyone films through is 2."""
_NOT_SQUARE = 0.02
_SHRINKS = Interpolation.AREA | Interpolation.ACCURATE_RND
"""Area averaging does not alias."""
_GROWS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND

Converters: TypeAlias = defaultdict[str, VideoReformatter]
"""A reformatter for each purpose, kept from picture to picture: each keeps the tables of its last conversion."""


class Picture:
    """One upright picture with square pixels.

    Args:
        frame: as it was decoded, with square pixels.
        convert: kept from picture to picture.
        label: what to call the file in errors.
        turns: quarter turns counterclockwise that make it upright.
    """

    def __init__(self, frame: VideoFrame, convert: Converters, label: str, *, turns: int = 0) -> None:
        self._frame, self._convert, self._label, self._turns = frame, convert, label, turns % 4
        stored = (frame.height, frame.width)
        self.height, self.width = stored[::-1] if self._turns % 2 else stored

    @property
    def _matrix(self) -> int | None:
        """BT.709 for untagged high-definition video, by custom: FFmpeg takes it for BT.601. Else None."""
        frame = self._frame
        return BT709 if frame.colorspace in _UNTAGGED and min(frame.width, frame.height) >= 720 else None

    def rgb(self) -> np.ndarray:
        """All of it, uint8 [H, W, 3].

        Raises:
            ValueError: the picture's format can't be converted.
        """
        return self._rgb("whole", self._frame, turns=self._turns)

    def reduced(
        self, longest: int, region: tuple[int, int, int, int] | None = None, *, sampled: bool = False
    ) -> np.ndarray:
        """A small copy.

        Args:
            longest: pixels of its longer side; a picture that is no larger keeps its size.
            region: (x, y, width, height), the part of the picture that is wanted; all of it by default.
            sampled: take pixels here and there, which costs next to nothing, instead of the mean over areas.

        Returns:
            uint8 RGB [h, w, 3].
        """
        frame, turns = self._frame, self._turns
        if region is not None and region != (0, 0, self.width, self.height):
            frame, turns = self._part(*region), 0
        scale = min(1.0, longest / max(frame.width, frame.height))
        width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
        purpose, how = ("sampled", Interpolation.POINT) if sampled else ("reduced", _SHRINKS)
        return self._rgb(purpose, frame, turns=turns, width=width, height=height, interpolation=int(how))

    def shrunk(self, factor: int) -> Picture:
        """The picture `factor` times as small, by area."""
        if factor == 1:
            return self
        frame = self._converted(
            "shrunk",
            self._planar(),
            width=self._frame.width // factor,
            height=self._frame.height // factor,
            interpolation=int(_SHRINKS),
        )
        if self._matrix is not None:
            frame.colorspace = self._matrix
        return Picture(frame, self._convert, self._label, turns=self._turns)

    def square(self, x0: int, y0: int, side: int, size: int) -> VideoFrame:
        """A square, resized.

        Args:
            x0: left edge, even; what lies outside the picture repeats its edge.
            y0: top edge, even.
            side: of the square, even.
            size: of the result, in pixels.

        Returns:
            A frame [size, size], 4:2:0, BT.709, limited range, as `encode_video` takes it.

        Raises:
            ValueError: the square lies outside the picture, or an odd number.
        """
        if x0 % 2 or y0 % 2 or side % 2:
            raise ValueError(f"square: expected even numbers, found {x0}, {y0}, {side}")
        frame = self._converted(
            "square",
            self._part(x0, y0, side, side),
            width=size,
            height=size,
            interpolation=int(_SHRINKS if side > size else _GROWS),
        )
        return tag_frame(to_bt709(frame))

    def _planar(self) -> VideoFrame:
        """The stored frame in 8-bit 4:2:0 planes: of its own matrix and range where it has them."""
        frame = self._frame
        if frame.format.name in _PLANES:
            return frame
        if any(component.is_chroma for component in frame.format.components):
            full = frame.format.name.startswith("yuvj") or frame.color_range == FULL_RANGE
            return self._converted(
                "planes", frame, format="yuvj420p" if full else "yuv420p", interpolation=EXACT_RGB
            )
        return self._converted(
            "planes",
            frame,
            format="yuv420p",
            src_colorspace=self._matrix,
            dst_colorspace=BT709,
            dst_color_range=LIMITED_RANGE,
            interpolation=EXACT_RGB,
        )

    def _part(self, x: int, y: int, width: int, height: int) -> VideoFrame:
        """A part of the upright picture, its edges on even pixels; outside of the picture its edge is repeated."""
        if x >= self.width or y >= self.height or x + width <= 0 or y + height <= 0:
            raise ValueError(
                f"{self._label}: {width}×{height} pixels at {x}, {y} lie outside the {self.height}×{self.width} picture"
            )
        planar = self._planar()
        x, y, width, height = x // 2 * 2, y // 2 * 2, (width + 1) // 2 * 2, (height + 1) // 2 * 2
        part = VideoFrame(width, height, "yuv420p")
        for plane, (source, target) in enumerate(zip(planar.planes, part.planes, strict=True)):
            scale = 2 if plane else 1
            pixels = np.rot90(plane_pixels(source), self._turns)
            plane_pixels(target)[:] = _cut(pixels, x // scale, y // scale, width // scale, height // scale)
        full = planar.format.name == "yuvj420p" or planar.color_range == FULL_RANGE
        part.color_range = FULL_RANGE if full else LIMITED_RANGE
        tagged = planar.colorspace not in _UNTAGGED
        part.colorspace = planar.colorspace if tagged else self._matrix or _BT601
        return part

    def _rgb(self, purpose: str, frame: VideoFrame, *, turns: int, **how: int) -> np.ndarray:
        matrix = self._matrix if frame is self._frame else None
        try:
            pixels = rgb_pixels(frame, self._convert[purpose], src_colorspace=matrix, **how)
        except av.error.FFmpegError as error:
            raise _unconvertible(self._label, frame, error) from error
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def _converted(self, purpose: str, frame: VideoFrame, **how: Any) -> VideoFrame:
        try:
            return self._convert[purpose].reformat(frame, threads=1, **how)
        except av.error.FFmpegError as error:
            raise _unconvertible(self._label, frame, error) from error


@dataclass(frozen=True)
class ReducedPictures(Sequence[np.ndarray]):
    """Small copies of pictures, RGB, each made when it is asked for."""

    pictures: Sequence[Picture]
    region: tuple[int, int, int, int]
    """(x, y, width, height), the part of the pictures that is wanted."""
    longest: int
    """Pixels of a copy's longer side."""

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override] - no slices
        return self.pictures[index].reduced(self.longest, self.region)


def square_pixels(frame: VideoFrame, aspect: Fraction | None, convert: Converters, label: str) -> VideoFrame:
    """The frame stretched across, where its pixels are not square.

    Args:
        frame: as decoded.
        aspect: a pixel's width over its height; None for square.
        convert: see `Picture`.
        label: what to call the file in errors.

    Raises:
        ValueError: no pixels are so wide, or so high, or the picture's format can't be converted.
    """
    ratio = float(aspect or 1)
    if not 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH:
        raise ValueError(f"{label}: damaged, pixels {ratio:.3g} times as wide as high make no picture")
    if abs(ratio - 1) <= _NOT_SQUARE:
        return frame
    width = max(1, round(frame.width * ratio))
    try:
        return convert["stretched"].reformat(frame, width=width, interpolation=EXACT_RGB, threads=1)
    except av.error.FFmpegError as error:
        raise _unconvertible(label, frame, error) from error


def _unconvertible(label: str, frame: VideoFrame, error: av.error.FFmpegError) -> ValueError:
    size = f"{frame.width}×{frame.height}"
    return ValueError(
        f"{label}: damaged, {size} pixels of {frame.format.name} make no picture ({reason_of(error)})"
    )


def _cut(pixels: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """[height, width] of a plane; outside of it its edge is repeated."""
    rows, columns = pixels.shape
    if x >= 0 and y >= 0 and x + width <= columns and y + height <= rows:
        return pixels[y : y + height, x : x + width]
    down = np.clip(np.arange(y, y + height), 0, rows - 1)
    across = np.clip(np.arange(x, x + width), 0, columns - 1)
    return pixels[down[:, None], across]


def grey_levels(frame: VideoFrame) -> np.ndarray:
    """The luma of a 4:2:0 frame of limited range as grey levels 0 … 255, uint8 [H, W]."""
    return cv2.LUT(plane_pixels(frame.planes[0]), _GREY)


_GREY = np.clip(np.round((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
"""Full range of limited range (ITU-R BT.709, 8 bits: black 16, white 235)."""

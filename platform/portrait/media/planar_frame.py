"""Decoded frames in the planes that they came in: what is not looked at is never converted to RGB.

Of ten seconds of footage, data preparation looks at small copies, finds a face, and keeps one square. RGB of every
whole frame would take twice the memory and more time than decoding did. Letters: `H W` of the upright frame.
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
"""FFmpeg's numbers for RGB and for an unspecified matrix."""
_PLANES = ("yuv420p", "yuvj420p")
"""Formats whose planes are used as they are: one of luma, two of chroma at half its height and width."""
_MAX_STRETCH = 8
"""Pixels wider or higher than this in proportion are damage: the widest anamorphic lenses give 2."""
_NOT_SQUARE = 0.02
_SHRINKS = Interpolation.AREA | Interpolation.ACCURATE_RND
"""Area averaging does not alias."""
_GROWS = Interpolation.BICUBIC | Interpolation.ACCURATE_RND

Converters: TypeAlias = defaultdict[str, VideoReformatter]
"""A reformatter for each purpose, kept from frame to frame: each keeps the tables of its last conversion."""


@dataclass(frozen=True)
class Orientation:
    """How a stored frame becomes upright: mirrored left to right if need be, then turned."""

    turns: int = 0
    """Quarter turns counterclockwise, 0 to 3."""
    mirrored: bool = False
    """Whether it is mirrored before it is turned, as front cameras of phones record."""

    @staticmethod
    def of(frame: VideoFrame, convert: Converters, label: str) -> Orientation:
        """What a frame's display matrix says (ISO/IEC 14496-12, 8.3.2); angles are rounded to quarter turns.

        The matrix maps a stored pixel (x, y) to the shown one: x' = a·x + c·y, y' = b·x + d·y.

        Args:
            frame: as it was decoded.
            convert: see `PlanarFrame`.
            label: what to call the file in errors.

        Raises:
            ValueError: its format can't be converted.
        """
        # From a small copy: in PyAV a frame and its side data refer to each other. A frame whose side data was read
        # stays in memory until Python collects cycles, and with it the decoder's pool of frames, a gigabyte and more.
        try:
            side_data = convert["tiny"].reformat(frame, width=16, height=16, threads=1).side_data
        except av.error.FFmpegError as error:
            raise _unconvertible(label, frame, error) from error
        if "DISPLAYMATRIX" not in side_data:
            return Orientation()
        a, b, _, c, d = np.frombuffer(memoryview(side_data["DISPLAYMATRIX"]), np.int32)[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return Orientation(turns=0 if d >= 0 else 2, mirrored=(a < 0) != (d < 0))
        return Orientation(turns=1 if c > 0 else 3, mirrored=(b < 0) == (c < 0))

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """A view of stored pixels [h, w, …] as they are shown."""
        return np.rot90(pixels[:, ::-1] if self.mirrored else pixels, self.turns)


class PlanarFrame:
    """One upright frame with square pixels.

    Args:
        frame: as it was decoded, with square pixels.
        convert: kept from frame to frame.
        label: what to call the file in errors.
        orientation: how it becomes upright.
    """

    def __init__(
        self, frame: VideoFrame, convert: Converters, label: str, orientation: Orientation = Orientation()
    ) -> None:
        self._frame, self._convert, self._label, self._orientation = frame, convert, label, orientation
        stored = (frame.height, frame.width)
        self.height, self.width = stored[::-1] if orientation.turns % 2 else stored

    @property
    def _matrix(self) -> int | None:
        """BT.709 for untagged high-definition video, by custom: FFmpeg takes it for BT.601. Else None."""
        frame = self._frame
        return BT709 if frame.colorspace in _UNTAGGED and min(frame.width, frame.height) >= 720 else None

    def rgb(self) -> np.ndarray:
        """The whole frame, uint8 [H, W, 3].

        Raises:
            ValueError: its format can't be converted.
        """
        return self._rgb("whole", self._frame, self._orientation)

    def reduced(
        self, longest: int, region: tuple[int, int, int, int] | None = None, *, sampled: bool = False
    ) -> np.ndarray:
        """A small copy.

        Args:
            longest: pixels of its longer side; a frame that is no larger keeps its size.
            region: (x, y, width, height), the part of the frame that is wanted; all of it by default.
            sampled: take single pixels, which costs next to nothing, instead of the mean over areas.

        Returns:
            uint8 RGB [h, w, 3].
        """
        frame, orientation = self._frame, self._orientation
        if region is not None and region != (0, 0, self.width, self.height):
            frame, orientation = self._part(*region), Orientation()
        scale = min(1.0, longest / max(frame.width, frame.height))
        width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
        purpose, how = ("sampled", Interpolation.POINT) if sampled else ("reduced", _SHRINKS)
        return self._rgb(purpose, frame, orientation, width=width, height=height, interpolation=int(how))

    def shrunk(self, factor: int) -> PlanarFrame:
        """The frame at 1/`factor` of its width and height, averaged over areas."""
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
        return PlanarFrame(frame, self._convert, self._label, self._orientation)

    def square(self, x0: int, y0: int, side: int, size: int) -> VideoFrame:
        """A square, resized.

        Args:
            x0: left edge, even; what lies outside the frame repeats its edge.
            y0: top edge, even.
            side: of the square, even.
            size: of the result, in pixels.

        Returns:
            A frame [size, size], 4:2:0, BT.709, limited range, as `encode_video` takes it.

        Raises:
            ValueError: the square lies outside the frame, or a number is odd.
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
        """The stored frame in 8-bit 4:2:0 planes, with its own matrix and range if it has them."""
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
        """A part of the upright frame, its edges on even pixels; outside the frame its edge is repeated."""
        if x >= self.width or y >= self.height or x + width <= 0 or y + height <= 0:
            raise ValueError(
                f"{self._label}: {width}×{height} pixels at {x}, {y} lie outside the {self.height}×{self.width} frame"
            )
        planar = self._planar()
        x, y, width, height = x // 2 * 2, y // 2 * 2, (width + 1) // 2 * 2, (height + 1) // 2 * 2
        part = VideoFrame(width, height, "yuv420p")
        for plane, (source, target) in enumerate(zip(planar.planes, part.planes, strict=True)):
            scale = 2 if plane else 1
            pixels = self._orientation.apply(plane_pixels(source))
            plane_pixels(target)[:] = _cut(pixels, x // scale, y // scale, width // scale, height // scale)
        full = planar.format.name == "yuvj420p" or planar.color_range == FULL_RANGE
        part.color_range = FULL_RANGE if full else LIMITED_RANGE
        tagged = planar.colorspace not in _UNTAGGED
        part.colorspace = planar.colorspace if tagged else self._matrix or _BT601
        return part

    def _rgb(self, purpose: str, frame: VideoFrame, orientation: Orientation, **how: int) -> np.ndarray:
        matrix = self._matrix if frame is self._frame else None
        try:
            pixels = rgb_pixels(frame, self._convert[purpose], src_colorspace=matrix, **how)
        except av.error.FFmpegError as error:
            raise _unconvertible(self._label, frame, error) from error
        return np.ascontiguousarray(orientation.apply(pixels))

    def _converted(self, purpose: str, frame: VideoFrame, **how: Any) -> VideoFrame:
        try:
            return self._convert[purpose].reformat(frame, threads=1, **how)
        except av.error.FFmpegError as error:
            raise _unconvertible(self._label, frame, error) from error


@dataclass(frozen=True)
class ReducedFrames(Sequence[np.ndarray]):
    """Small RGB copies of frames, each made when it is asked for."""

    frames: Sequence[PlanarFrame]
    region: tuple[int, int, int, int]
    """(x, y, width, height), the part of the frames that is wanted."""
    longest: int
    """Pixels of a copy's longer side."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override] - no slices
        return self.frames[index].reduced(self.longest, self.region)


def square_pixels(frame: VideoFrame, aspect: Fraction | None, convert: Converters, label: str) -> VideoFrame:
    """The frame stretched horizontally where its pixels are not square.

    Args:
        frame: as decoded.
        aspect: a pixel's width over its height; None for square.
        convert: see `PlanarFrame`.
        label: what to call the file in errors.

    Raises:
        ValueError: an implausible pixel shape, or a format that can't be converted.
    """
    ratio = float(aspect or 1)
    if not 1 / _MAX_STRETCH <= ratio <= _MAX_STRETCH:
        raise ValueError(f"{label}: damaged, pixels {ratio:.3g} times as wide as high are implausible")
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
        f"{label}: damaged, {size} pixels of {frame.format.name} can't be converted ({reason_of(error)})"
    )


def _cut(pixels: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """[height, width] of a plane; outside the plane its edge is repeated."""
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

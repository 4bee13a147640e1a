"""Painting of the static layers: soft masks, premultiplied paint, procedural textures.

Positions are in sides of a square board, x to the right and y down, (0, 0) its top left corner; the picture
shows a window of it (`renderer.py`). A canvas reaches `MARGIN` beyond the board on every side so that a layer
can move without showing its end. Letters: H, W pixels of a canvas or of a mask's box.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 0.1
"""How far a canvas reaches beyond the board, in its sides."""
_SUB = 16  # cv2 draws at 1/16 pixel with shift=4


@dataclass(frozen=True)
class Mask:
    """Coverage in a box of the canvas: only that box is touched when painting, which keeps small features cheap."""

    y: int
    x: int
    values: np.ndarray
    """float32 [H, W] in [0, 1]."""

    @property
    def box(self) -> tuple[slice, slice]:
        return slice(self.y, self.y + self.values.shape[0]), slice(self.x, self.x + self.values.shape[1])

    def times(self, factor: np.ndarray | float) -> Mask:
        """This mask weighted by a number, or by an array over the whole canvas."""
        weight = factor[self.box] if isinstance(factor, np.ndarray) else factor
        return Mask(self.y, self.x, (self.values * weight).astype(np.float32))

    def outside(self, other: Mask) -> Mask:
        """This mask with `other` cut out of it."""
        values = self.values.copy()
        y0, y1 = max(self.y, other.y), min(self.y + values.shape[0], other.y + other.values.shape[0])
        x0, x1 = max(self.x, other.x), min(self.x + values.shape[1], other.x + other.values.shape[1])
        if y1 > y0 and x1 > x0:
            cut = other.values[y0 - other.y : y1 - other.y, x0 - other.x : x1 - other.x]
            values[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x] *= 1 - cut
        return Mask(self.y, self.x, values)

    def inside(self, other: Mask) -> Mask:
        """The product of the two coverages."""
        rest = self.outside(other)
        return Mask(self.y, self.x, self.values - rest.values)


class Canvas:
    """A transparent sheet that is painted on; premultiplied colour and coverage.

    Args:
        scale: pixels per board side.
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.side = round((1 + 2 * MARGIN) * scale)
        axis = ((np.arange(self.side, dtype=np.float32) + 0.5) / scale) - MARGIN
        self.x, self.y = np.meshgrid(axis, axis)
        self.colour = np.zeros((self.side, self.side, 3), np.float32)
        self.alpha = np.zeros((self.side, self.side), np.float32)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return (np.asarray(points, np.float64) + MARGIN) * self.scale - 0.5

    def _box(self, pixels: np.ndarray, pad: float) -> tuple[int, int, int, int]:
        low = np.floor(pixels.min(0) - pad).astype(int)
        high = np.ceil(pixels.max(0) + pad).astype(int) + 1
        x0, y0 = np.clip(low, 0, self.side - 1)
        x1, y1 = np.clip(high, 1, self.side)
        return int(x0), int(y0), int(max(x1, x0 + 1)), int(max(y1, y0 + 1))

    def polygon(self, points: np.ndarray, soft: float = 0.0) -> Mask:
        """Coverage of a closed polygon [N, 2]; `soft` is the blur of its edge in board sides."""
        pixels = self._pixels(points)
        sigma = soft * self.scale
        x0, y0, x1, y1 = self._box(pixels, 2 + 3 * sigma)
        image = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = np.round((pixels - (x0, y0)) * _SUB).astype(np.int32)
        cv2.fillPoly(image, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
        return Mask(y0, x0, _soften(image, sigma))

    def stroke(self, points: np.ndarray, width: float, soft: float = 0.0, closed: bool = False) -> Mask:
        """Coverage of a line of constant width (board sides) along points [N, 2]."""
        points = np.asarray(points, np.float64)
        if closed:
            points = np.vstack([points, points[:1]])
        return self.polygon(ribbon(points, np.full(len(points), width)), soft)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, *, soft: float = 0.0, angle: float = 0.0
    ) -> Mask:
        """Coverage of an ellipse turned by `angle` radians."""
        t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        ex, ey = rx * np.cos(t), ry * np.sin(t)
        points = np.stack(
            [x + ex * np.cos(angle) - ey * np.sin(angle), y + ex * np.sin(angle) + ey * np.cos(angle)], 1
        )
        return self.polygon(points, soft)

    def glow(self, x: float, y: float, rx: float, ry: float) -> Mask:
        """A Gaussian spot with the given standard deviations: shadows, blushes, shine."""
        x0, y0, x1, y1 = self._box(
            self._pixels(np.array([[x - 3 * rx, y - 3 * ry], [x + 3 * rx, y + 3 * ry]])), 1
        )
        gx = np.exp(-0.5 * ((self.x[0, x0:x1] - x) / rx) ** 2)
        gy = np.exp(-0.5 * ((self.y[y0:y1, 0] - y) / ry) ** 2)
        return Mask(y0, x0, (gy[:, None] * gx[None, :]).astype(np.float32))

    def paint(self, mask: Mask, colour: np.ndarray, opacity: float = 1.0) -> None:
        """Lays colour ([3] or [canvas, canvas, 3]) over the existing paint, adding coverage."""
        m = (mask.values * opacity)[..., None] if opacity != 1.0 else mask.values[..., None]
        source = colour[mask.box] if np.ndim(colour) == 3 else np.asarray(colour, np.float32)
        region = self.colour[mask.box]
        region *= 1 - m
        region += source * m
        cover = self.alpha[mask.box]
        cover += (1 - cover) * m[..., 0]

    def tint(self, mask: Mask, colour: np.ndarray, opacity: float = 1.0) -> None:
        """Colours the existing paint, without adding coverage."""
        m = (mask.values * opacity)[..., None]
        source = colour[mask.box] if np.ndim(colour) == 3 else np.asarray(colour, np.float32)
        region = self.colour[mask.box]
        region *= 1 - m
        region += source * m * self.alpha[mask.box][..., None]

    def shade(self, mask: Mask, factor: float) -> None:
        """Darkens (< 1) or brightens (> 1) the existing paint."""
        self.colour[mask.box] *= (1 + (factor - 1) * mask.values)[..., None]

    def rgba(self, scale: int) -> np.ndarray:
        """The sheet at another number of pixels per side: premultiplied uint8 [h, w, 4]."""
        image = np.empty((self.side, self.side, 4), np.float32)
        image[..., :3], image[..., 3] = self.colour, self.alpha
        side = round((1 + 2 * MARGIN) * scale)
        if side != self.side:
            shrink = side < self.side
            image = cv2.resize(
                image, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
            )
        alpha = np.clip(image[..., 3:], 0, 1)
        image = np.clip(image, 0, alpha, out=image)  # premultiplied colour never exceeds its coverage
        return cv2.convertScaleAbs(image, alpha=255)


def _soften(image: np.ndarray, sigma: float) -> np.ndarray:
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    return image.astype(np.float32) / 255


def ribbon(points: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The outline [2N, 2] of a line along points [N, 2] with a width [N] at each."""
    points = np.asarray(points, np.float64)
    direction = np.empty_like(points)
    direction[1:-1] = points[2:] - points[:-2]
    direction[0], direction[-1] = points[1] - points[0], points[-1] - points[-2]
    half = 0.5 * np.asarray(widths) / (np.sqrt((direction * direction).sum(1)) + 1e-9)
    offset = np.empty_like(points)
    offset[:, 0], offset[:, 1] = -direction[:, 1] * half, direction[:, 0] * half
    return np.concatenate([points + offset, (points - offset)[::-1]])


def curve(points: list[tuple[float, float]], count: int = 40) -> np.ndarray:
    """A smooth open curve [count, 2] through the points (Catmull-Rom)."""
    p = np.asarray(points, np.float64)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, len(p) - 3 - 1e-9, count)
    i, f = t.astype(int), (t % 1)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def value_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float], octaves: int = 3
) -> np.ndarray:
    """Smooth noise float32 [H, W] in about [-1, 1], `cells` (down, across) periods in the coarsest octave."""
    total = np.zeros(shape, np.float32)
    norm = 0.0
    for octave in range(octaves):
        rows, columns = (max(2, round(c * 2**octave) + 1) for c in cells)
        grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * 0.5**octave
        norm += 0.5**octave
    return total / norm

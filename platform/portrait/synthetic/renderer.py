"""Frames of one person in one place: the static layers warped by the pose, eyes and mouth drawn into them.

The head's texture is looked up at q - depth(q) * (yaw, pitch), q the picture's point turned back into the
head's upright frame: parallax of a smooth relief (an ellipsoid and a nose), which for the angles of talk is
close to a rotation. All maps are computed on a grid of one point in `_GRID` pixels and interpolated.
Positions are in sides of the board that is painted on; the picture shows a window of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from portrait.synthetic.background import background
from portrait.synthetic.body import body_layer
from portrait.synthetic.canvas import MARGIN
from portrait.synthetic.features import Eyes, Mouth, over
from portrait.synthetic.head import HEAD_Y, Light, head_layers
from portrait.synthetic.identity import Identity

_GRID = 4
ZOOM = 1.29
"""The board's side over the picture's: the window is framed as `portrait.faces` frames a portrait."""
_WINDOW = np.array([0.5 - 0.5 / ZOOM, 0.13])
"""The window's top left corner on the board."""
_PIVOT = np.array([0.5, 0.8])
"""The head turns about the base of the neck."""
_JAW_DROP = 0.62
"""How far the chin falls, over the lower lip's way."""


@dataclass(frozen=True)
class FrameState:
    """What one frame shows."""

    opening: float = 0.0
    """Mouth opening in [0, 1]."""
    rounding: float = 0.0
    """-1 spread … 1 round."""
    pose: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Yaw, pitch, roll in radians."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Translation in board sides."""
    blink: float = 0.0
    """0 open … 1 shut."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """[-1, 1], right and down."""
    brow: float = 0.0
    """Lift of the brows in board sides."""
    breath: float = 0.0
    """[-1, 1]."""


class HeadRenderer:
    """Renders frames of one person in one setting.

    Args:
        person: who.
        size: picture side in pixels, a multiple of 4.
        clip_seed: draws clothes, place and light.

    Raises:
        ValueError: size is not a multiple of 4 of at least 32.
    """

    def __init__(self, person: Identity, size: int, clip_seed: int = 0) -> None:
        if size < 32 or size % _GRID:
            raise ValueError(f"size: found {size}, expected a multiple of {_GRID} of at least 32")
        self.person, self.size = person, size
        rng = np.random.default_rng([person.seed, clip_seed, 11])
        light = Light.random(rng)
        scale = round((1.25 if size < 512 else 1.0) * ZOOM * size)
        self.scale = scale
        art = 288 if scale <= 240 else 512  # small pictures need no finer painting
        back, face, front = head_layers(person, light, art)
        body = body_layer(person, light, rng, art)
        place = cv2.resize(background(rng), (size, size), interpolation=cv2.INTER_AREA)
        self._back, self._body, self._face, self._front = (
            layer.rgba(scale) for layer in (back, body, face, front)
        )
        self._place = np.dstack(
            [np.round(place * 255).astype(np.uint8), np.full((size, size), 255, np.uint8)]
        )
        brightness = light.ambient + (1.0 - light.ambient) * 0.95
        self.mouth = Mouth(person, scale, brightness)
        self.eyes = Eyes(person, scale, brightness)
        self._jaw_box = self._make_jaw_box()
        self._texture = over(self._face, self._front)
        self._grid = self._make_grid()
        self._has_back = bool(self._back[..., 3].any())

    @property
    def mouth_full_px(self) -> float:
        """Gap between the lips at full opening, head upright, in pixels."""
        return self.person.mouth_full * ZOOM * self.size

    def frame(self, state: FrameState) -> np.ndarray:
        """One frame, uint8 RGB [size, size, 3]."""
        texture = self._texture
        self._draw_mouth(texture, state)
        self._draw_eyes(texture, state)
        image = self._place
        if self._has_back:
            image = over(
                image, self._affine(self._back, state, depth=-0.35 * self.person.face_width, follow=1.0)
            )
        image = self._paint_body(image, state)
        # Two maps, since OpenCV 5 shows nothing for one map with both coordinates.
        map_x, map_y = cv2.split(self._head_map(state))
        head = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return cv2.cvtColor(over(image, head), cv2.COLOR_RGBA2RGB)

    def locate(self, points: np.ndarray, state: FrameState) -> np.ndarray:
        """Where points [N, 2] of the upright head (board sides) appear in the frame, in pixels [N, 2]."""
        yaw, pitch, roll = state.pose
        q = points.copy()
        for _ in range(
            12
        ):  # fixed point of q = p + depth(q) * turn: a contraction, the relief's slope times the angle is < 0.5
            q = points + self._parallax(q[:, 0], q[:, 1], yaw, pitch, state.brow)
        c, s = np.cos(roll), np.sin(roll)
        d = q - _PIVOT
        turned = np.stack([c * d[:, 0] - s * d[:, 1], s * d[:, 0] + c * d[:, 1]], 1)
        return (turned + _PIVOT + np.array(state.shift) - _WINDOW) * (ZOOM * self.size)

    def mouth_truth(self, state: FrameState) -> tuple[np.ndarray, float]:
        """The mouth's centre in pixels [2] and the gap between the lips at its centre in pixels."""
        top, bottom = self.mouth.gap(state.opening)
        upper, lower = self.locate(np.array([(0.5, top), (0.5, bottom)]), state)
        return (upper + lower) / 2, float(np.hypot(*(lower - upper)))

    # -- the parts of a frame

    def _draw_mouth(self, texture: np.ndarray, state: FrameState) -> None:
        ys, xs = self._jaw_box
        drop = self.person.mouth_full * 0.84 * _JAW_DROP * state.opening * self.scale
        patch = cv2.remap(
            self._face[ys, xs],
            self._jaw_x,
            self._jaw_y - drop * self._jaw_weight,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        mouth = self.mouth.patch
        my, mx = (
            slice(mouth.y - ys.start, mouth.y - ys.start + mouth.h),
            slice(mouth.x - xs.start, mouth.x - xs.start + mouth.w),
        )
        patch[my, mx] = over(patch[my, mx], self.mouth.draw(state.opening, state.rounding))
        texture[ys, xs] = over(patch, self._front[ys, xs])

    def _draw_eyes(self, texture: np.ndarray, state: FrameState) -> None:
        box = self.eyes.patch.box
        texture[box] = over(over(self._face[box], self.eyes.draw(state.blink, state.gaze)), self._front[box])

    def _paint_body(self, image: np.ndarray, state: FrameState) -> np.ndarray:
        start = self.size // 2  # nothing of the body is higher
        layer = self._affine(self._body, state, depth=0.0, follow=0.25, rows=start)
        image = image.copy() if image is self._place else image
        image[start:] = over(image[start:], layer)
        return image

    def _affine(
        self, layer: np.ndarray, state: FrameState, depth: float, follow: float, rows: int = 0
    ) -> np.ndarray:
        """A flat layer at a depth that follows the head's motion in part; from the picture's row `rows` down."""
        yaw, pitch, roll = (a * follow for a in state.pose)
        c, s = np.cos(roll), np.sin(roll)
        stretch = 1 + 0.006 * state.breath * (1 - follow)
        pixels = ZOOM * self.size
        # picture pixel -> board -> texture pixel: undo the shift, turn back about the pivot, add the parallax
        turn = np.array([[c, s], [-s, c * stretch]])
        first = _WINDOW + np.array([0.5, 0.5 + rows]) / pixels - _PIVOT - np.array(state.shift) * follow
        offset = (turn @ first + _PIVOT + MARGIN - depth * np.array([yaw, pitch])) * self.scale - 0.5
        matrix = np.hstack([turn * self.scale / pixels, offset[:, None]])
        return cv2.warpAffine(
            layer, matrix, (self.size, self.size - rows), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )

    def _parallax(self, x: np.ndarray, y: np.ndarray, yaw: float, pitch: float, brow: float) -> np.ndarray:
        """Displacement [..., 2] of the relief at points of the upright head's frame."""
        w = self.person.face_width
        r2 = ((x - 0.5) / (w * 1.12)) ** 2 + ((y - HEAD_Y) / 0.31) ** 2
        depth = w * (1.15 * np.exp(-1.05 * r2) - 0.33)
        depth = depth + 0.035 * np.exp(
            -(((x - 0.5) / 0.035) ** 2) - ((y - self.person.nose_y + 0.012) / 0.05) ** 2
        )
        lift = (
            brow
            * np.exp(-(((y - self.person.eye_y + self.person.brow_lift) / 0.03) ** 2))
            * np.exp(-((((x - 0.5) / 0.16) ** 2) ** 2))
        )
        return np.stack([depth * yaw, depth * pitch - lift], -1)

    def _head_map(self, state: FrameState) -> np.ndarray:
        """Texture pixel of every picture pixel, float32 [size, size, 2]."""
        yaw, pitch, roll = state.pose
        c, s = np.cos(roll), np.sin(roll)
        dx, dy = self._grid[0] - _PIVOT[0] - state.shift[0], self._grid[1] - _PIVOT[1] - state.shift[1]
        x, y = c * dx + s * dy + _PIVOT[0], -s * dx + c * dy + _PIVOT[1]
        source = np.stack([x, y], -1) - self._parallax(x, y, yaw, pitch, state.brow)
        pixels = ((source + MARGIN) * self.scale - 0.5).astype(np.float32)
        side = (self.size // _GRID + 2) * _GRID
        return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)[_GRID:-_GRID, _GRID:-_GRID]

    def _make_grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Coarse points with one cell of border, so that interpolation is exact up to the picture's edge."""
        axis = (np.arange(-1, self.size // _GRID + 1) + 0.5) * _GRID / (self.size * ZOOM)
        x, y = np.meshgrid(axis + _WINDOW[0], axis + _WINDOW[1])
        return x.astype(np.float32), y.astype(np.float32)

    def _make_jaw_box(self) -> tuple[slice, slice]:
        """The lower face, stretched down when the jaw drops."""
        p, k = self.person, self.scale
        y0, y1 = round((p.mouth_y - 0.075 + MARGIN) * k), round((p.chin + 0.1 + MARGIN) * k)
        x0, x1 = (
            round((0.5 - p.face_width - 0.03 + MARGIN) * k),
            round((0.5 + p.face_width + 0.03 + MARGIN) * k),
        )
        rows, columns = np.mgrid[0 : y1 - y0, 0 : x1 - x0].astype(np.float32)
        y, x = (rows + y0 + 0.5) / k - MARGIN, (columns + x0 + 0.5) / k - MARGIN
        t = np.clip((y - p.mouth_y + 0.045) / (p.chin - p.mouth_y + 0.045), 0, 1)
        across = np.exp(-(((x - 0.5) / (p.face_width * 1.05)) ** 4))
        self._jaw_x, self._jaw_y = columns, rows
        self._jaw_weight = (t * t * (3 - 2 * t) * across).astype(np.float32)
        return slice(y0, y1), slice(x0, x1)

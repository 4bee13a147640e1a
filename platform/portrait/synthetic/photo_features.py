"""Animates the mouth and eyes of a photograph: parts the lips, lowers the jaw, closes the eyelids, shifts the gaze.

Each feature redraws its box of the texture by backward warping. Coordinates are texture pixels. Landmarks are those of
`portrait.faces.landmarks`. Letters: H W of the box.
"""

from __future__ import annotations

import cv2
import numpy as np

from portrait.synthetic.photo_layers import Board

_INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_INNER_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""The lips' inner edges, from the picture's left to its right."""
_LIDS = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
"""Edges of the upper and lower lid of each eye, from the picture's left to its right."""
MOUTH_FULL = 0.36
"""Gap between the lips at full opening, over half the face's width."""
UPPER_SHARE = 0.16
"""Share of the gap by which the upper lip rises; the lower lip falls by the rest."""
_JAW_DROP = 0.62
"""How far the chin falls, over the lower lip's way."""
_ROUND = 0.22
"""How much narrower the mouth is when round."""


class PhotoMouth:
    """Opens and closes a photographed mouth, also one that is open in the still.

    Args:
        board: the still.
        light: brightness of the face, about 1, for the inside of the mouth.
    """

    def __init__(self, board: Board, light: float) -> None:
        self._board, self._light = board, light
        half = board.half_width * board.scale
        self.full_px = MOUTH_FULL * half
        upper = board.pixels(board.landmarks[list(_INNER_UPPER)])
        lower = board.pixels(board.landmarks[list(_INNER_LOWER)])
        self._half_width = max(2.0, (upper[-1, 0] - upper[0, 0]) / 2)
        self.centre_x = float(upper[[0, -1], 0].mean())
        chin_y = float(board.pixels(board.chin)[1])
        self._chin_y, self._half = chin_y, half
        side = board.picture.shape[0]
        y0 = max(0, round(upper[:, 1].min() - 0.45 * half))
        y1, x0 = min(side, round(chin_y + 0.75 * half)), max(0, round(self.centre_x - 1.1 * half))
        self.box = slice(y0, y1), slice(x0, min(side, round(self.centre_x + 1.1 * half)))
        rows, columns = np.mgrid[self.box].astype(np.float32)
        self._x, self._y = columns, rows
        self._upper, self._lower = upper, lower
        self.rest_gap = float(np.interp(self.centre_x, lower[:, 0], lower[:, 1]) - self._seam_y(upper))

    def _seam_y(self, edge: np.ndarray) -> float:
        return float(np.interp(self.centre_x, edge[:, 0], edge[:, 1]))

    def gap(self, opening: float) -> tuple[np.ndarray, np.ndarray]:
        """The lips' inner edges at the middle of the mouth, board sides [2] each, upper and lower."""
        extra = opening * self.full_px - self.rest_gap
        y = (
            self._seam_y(self._upper) - UPPER_SHARE * extra,
            self._seam_y(self._lower) + (1 - UPPER_SHARE) * extra,
        )
        margin = self._board.pixels(np.zeros(2))[0]
        upper, lower = (np.array([self.centre_x - margin, edge - margin]) / self._board.scale for edge in y)
        return upper, lower

    def draw(self, texture: np.ndarray, picture: np.ndarray, opening: float, rounding: float) -> None:
        """Draws the mouth into `texture`, taken from `picture`; both float32 [H, W, 3] of the whole board."""
        half, x, y = self._half, self._x, self._y
        middle = (self._seam_y(self._upper) + self._seam_y(self._lower)) / 2
        near = np.exp(
            -(((x - self.centre_x) / (1.3 * self._half_width)) ** 4) - ((y - middle) / (0.5 * half)) ** 2
        )
        source_x = self.centre_x + (x - self.centre_x) * (1 + _ROUND * rounding * near)
        at_lips = source_x[round(middle) - self.box[0].start]
        across = (at_lips - self.centre_x) / self._half_width
        upper = np.interp(at_lips, self._upper[:, 0], self._upper[:, 1]).astype(np.float32)
        lower = np.interp(at_lips, self._lower[:, 0], self._lower[:, 1]).astype(np.float32)
        gap = opening * self.full_px * np.clip(1 - across**2, 0, 1) ** 0.75
        extra = (gap - np.maximum(0, lower - upper)).astype(np.float32)
        top, bottom = upper - UPPER_SHARE * extra, lower + (1 - UPPER_SHARE) * extra
        upper_y = y + UPPER_SHARE * extra * (1 - _smooth((top - y) / (0.3 * half)))
        lower_y = y - self._lowered(y, lower, bottom, opening, across)
        above, below = np.clip(top - y + 0.5, 0, 1), np.clip(y - bottom + 0.5, 0, 1)
        source_y = np.where(y < (top + bottom) / 2, upper_y, lower_y).astype(np.float32)
        skin = cv2.remap(picture, source_x.astype(np.float32), source_y, cv2.INTER_LINEAR)
        inside = self._inside(top, bottom, across)
        open_share = np.clip(1 - above - below, 0, 1)[..., None]
        texture[self.box] = skin * (1 - open_share) + inside * open_share

    def _lowered(
        self, y: np.ndarray, lower: np.ndarray, bottom: np.ndarray, opening: float, across: np.ndarray
    ) -> np.ndarray:
        """Downward displacement below the mouth [H, W]: the lip follows the gap, the jaw moves rigidly."""
        drop = max(0.0, (1 - UPPER_SHARE) * opening * self.full_px - 0.5 * max(0.0, self.rest_gap))
        jaw = _JAW_DROP * drop * np.exp(-((across * self._half_width / (0.85 * self._half)) ** 4))
        towards_chin = _smooth((y - bottom) / np.maximum(1, 0.75 * (self._chin_y - lower)))
        beyond = _smooth((y - self._chin_y - drop) / (0.55 * self._half))
        return ((bottom - lower) * (1 - towards_chin) + jaw * towards_chin) * (1 - beyond)

    def _inside(self, top: np.ndarray, bottom: np.ndarray, across: np.ndarray) -> np.ndarray:
        """The mouth cavity [H, W, 3]: dark, with upper teeth and a tongue."""
        y = self._y
        depth = np.clip(1 - across**2, 0, 1)
        colour = np.ones((*y.shape, 3), np.float32) * np.array([0.2, 0.07, 0.07], np.float32)
        gap = bottom - top
        tongue = np.clip((y - (bottom - 0.38 * gap)) / np.maximum(1.5, 0.12 * gap), 0, 1) * depth
        colour += tongue[..., None] * (np.array([0.62, 0.3, 0.3], np.float32) - colour)
        reach = np.minimum(0.42 * gap, 0.13 * self._half)
        teeth = np.clip(top + reach - y + 0.5, 0, 1) * np.clip(1.6 * depth, 0, 1)
        shade = 0.55 + 0.45 * depth
        white = np.array([0.86, 0.83, 0.77], np.float32) * shade[None, :, None]
        colour += teeth[..., None] * (white - colour)
        return np.clip(colour * self._light, 0, 1).astype(np.float32)


class PhotoEyes:
    """Closes photographed eyes and moves their gaze.

    Args:
        board: the still.
    """

    def __init__(self, board: Board) -> None:
        self._eyes = [_Eye(board, *edges) for edges in _LIDS]

    def draw(self, texture: np.ndarray, picture: np.ndarray, blink: float, gaze: tuple[float, float]) -> None:
        """Draws both eyes into `texture`, taken from `picture`; both float32 [H, W, 3] of the whole board."""
        for eye in self._eyes:
            eye.draw(texture, picture, blink, gaze)


class _Eye:
    def __init__(self, board: Board, upper: tuple[int, ...], lower: tuple[int, ...]) -> None:
        top, bottom = (board.pixels(board.landmarks[list(edge)]) for edge in (upper, lower))
        self._left, self._right = float(top[0, 0]), float(top[-1, 0])
        self._width = max(2.0, self._right - self._left)
        self._height = max(1.0, float((bottom[:, 1] - top[:, 1]).max()))
        side, reach = board.picture.shape[0], 0.25 * self._width
        y0 = max(0, round(top[:, 1].min() - 0.55 * self._width))
        y1 = min(side, round(bottom[:, 1].max() + 0.2 * self._width))
        self.box = (
            slice(y0, y1),
            slice(max(0, round(self._left - reach)), min(side, round(self._right + reach))),
        )
        self._y, self._x = np.mgrid[self.box].astype(np.float32)
        columns = self._x[0]
        self._top = np.interp(columns, top[:, 0], top[:, 1]).astype(np.float32)
        self._bottom = np.interp(columns, bottom[:, 0], bottom[:, 1]).astype(np.float32)
        across = (columns - self._left) / self._width * 2 - 1
        self._across = np.clip(1 - across**2, 0, 1)

    def draw(self, texture: np.ndarray, picture: np.ndarray, blink: float, gaze: tuple[float, float]) -> None:
        opening = self._bottom - self._top
        lid = self._top + 0.96 * blink * opening
        crease = self._top - 0.45 * self._width
        # The skin between the crease and the lid's edge is stretched down to the edge's new position.
        stretch = np.clip((self._y - crease) / np.maximum(lid - crease, 1e-3), 0, 1)
        skin_y = np.where(self._y < crease, self._y, crease + stretch * (self._top - crease))
        within = np.clip((self._y - self._top) / np.maximum(opening, 1), 0, 1)
        window = self._across * 4 * within * (1 - within)
        eye_x = self._x - 0.11 * self._width * gaze[0] * window
        eye_y = self._y - 0.12 * self._height * gaze[1] * window
        skin = cv2.remap(picture, self._x, skin_y.astype(np.float32), cv2.INTER_LINEAR)
        eye = cv2.remap(picture, eye_x.astype(np.float32), eye_y.astype(np.float32), cv2.INTER_LINEAR)
        covered = np.clip(lid - self._y + 0.5, 0, 1)[..., None]
        lash = blink * self._across * np.exp(-(((self._y - lid) / max(0.8, 0.035 * self._width)) ** 2))
        drawn = (skin * covered + eye * (1 - covered)) * (1 - 0.55 * lash)[..., None]
        texture[self.box] = drawn


def _smooth(t: np.ndarray) -> np.ndarray:
    """Smoothstep from 0 to 1."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)

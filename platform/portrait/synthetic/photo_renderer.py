"""Renders frames of a talking head from a single photograph, as `renderer.HeadRenderer` does from a painted one.

The person is one layer, cut out by the matte, over a static background. The layer is sampled at
q − depth(q)·(yaw, pitch): parallax of a smooth relief (an ellipsoid and a nose). The head follows the motion in
full, the shoulders by a fifth, and the neck in between. The result does not pass for real footage; its purpose is
photographic texture in motion with known mouth opening and head pose.
"""

from __future__ import annotations

import cv2
import numpy as np

from portrait.synthetic.background import background
from portrait.synthetic.photo_features import PhotoEyes, PhotoMouth
from portrait.synthetic.photo_layers import MARGIN, Board, behind, matte, place
from portrait.synthetic.renderer import FrameState

_GRID = 4
_SUPERSAMPLING = 1.25
_FOLLOW = 0.2
"""Share of the head's motion that the shoulders follow."""
_NOSE = 4
_PAINTED_PLACES = 0.3
"""Share of the clips before a painted background: the still's own is only an estimate where the head hides it."""


class PhotoRenderer:
    """Renders frames of the person in a still.

    Args:
        picture: the still, RGB uint8 [H, W, 3].
        landmarks: [N, 3] in its pixels (`portrait.faces.landmarks`).
        size: side of the frames in pixels, a multiple of 4.
        rng: draws framing, light and place.

    Raises:
        ValueError: size is not a multiple of 4 of at least 32.
    """

    def __init__(
        self, picture: np.ndarray, landmarks: np.ndarray, size: int, rng: np.random.Generator
    ) -> None:
        if size < 32 or size % _GRID:
            raise ValueError(f"size must be a multiple of {_GRID} from 32 on, got {size}")
        self.size = size
        scale = round(_SUPERSAMPLING * size)
        board = place(picture, landmarks, scale, rng)
        coverage = matte(board)
        ground = behind(board.picture, coverage)
        gain = 1 + rng.uniform(-0.12, 0.12) + rng.uniform(-0.05, 0.05, 3)
        self._picture = np.clip(board.picture * gain, 0, 1).astype(np.float32)
        inner = round(MARGIN * scale)
        ground = np.clip(ground * gain, 0, 1)[inner : inner + scale, inner : inner + scale]
        if rng.random() < _PAINTED_PLACES:
            ground = background(rng)
        self._ground = cv2.resize(ground.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        self._board, self._coverage = board, coverage[..., None]
        self.mouth = PhotoMouth(board, _brightness(board))
        self.eyes = PhotoEyes(board)
        self._texture = self._picture.copy()
        self._pivot = board.chin + np.array([0.0, 0.5 * board.half_width])
        axis = (np.arange(-1, size // _GRID + 1) + 0.5) * _GRID / size
        self._points = np.stack(np.meshgrid(axis, axis), -1)

    @property
    def mouth_full_px(self) -> float:
        """Gap between the lips at full opening, head upright, in pixels of the frame."""
        return self.mouth.full_px / self._board.scale * self.size

    def frame(self, state: FrameState) -> np.ndarray:
        """One frame, uint8 RGB [size, size, 3]."""
        self.mouth.draw(self._texture, self._picture, state.opening, state.rounding)
        self.eyes.draw(self._texture, self._picture, state.blink, state.gaze)
        sheet = np.concatenate([self._texture * self._coverage, self._coverage], axis=-1)
        pixels = self._board.pixels(self._source(self._points, state)).astype(np.float32)
        side = (self.size // _GRID + 2) * _GRID
        pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)
        # Two maps, since OpenCV 5 shows nothing for one map with both coordinates.
        map_x, map_y = cv2.split(pixels[_GRID:-_GRID, _GRID:-_GRID])
        # Below the texture's lower edge the shoulders are extended.
        person = cv2.remap(sheet, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        image = person[..., :3] + self._ground * (1 - person[..., 3:])
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)

    def locate(self, points: np.ndarray, state: FrameState) -> np.ndarray:
        """Where points [N, 2] of the board appear in the frame, in pixels [N, 2]."""
        found = points.copy()
        for _ in range(16):  # fixed point of found = points + (found − source(found)): the motion is gentle
            found = points + found - self._source(found, state)
        return found * self.size

    def mouth_truth(self, state: FrameState) -> tuple[np.ndarray, float]:
        """The mouth's centre in pixels [2] and the gap between the lips at its centre in pixels."""
        upper, lower = self.locate(np.stack(self.mouth.gap(state.opening)), state)
        return (upper + lower) / 2, float(np.hypot(*(lower - upper)))

    def _source(self, points: np.ndarray, state: FrameState) -> np.ndarray:
        """Board position that is seen at points [..., 2] of the frame."""
        half, chin = self._board.half_width, self._board.chin
        t = np.clip((points[..., 1] - chin[1]) / (1.5 * half), 0, 1)
        follow = 1 - (1 - _FOLLOW) * t * t * (3 - 2 * t)
        yaw, pitch, roll = state.pose
        cos, sin = np.cos(roll * follow), np.sin(roll * follow)
        d = points - self._pivot - np.array(state.shift) * follow[..., None]
        turned = (
            np.stack([cos * d[..., 0] + sin * d[..., 1], -sin * d[..., 0] + cos * d[..., 1]], -1)
            + self._pivot
        )
        depth = self._depth(turned) * follow
        lift = self._lift(turned) * state.brow - 0.004 * state.breath * (1 - follow)
        return turned - np.stack([depth * yaw, depth * pitch - lift], -1)

    def _depth(self, points: np.ndarray) -> np.ndarray:
        """The relief [...] at points of the upright head, in board sides."""
        half, centre = self._board.half_width, self._board.centre
        nose = self._board.landmarks[_NOSE]
        x, y = (points[..., 0] - centre[0]) / half, (points[..., 1] - centre[1]) / half
        relief = half * (1.15 * np.exp(-1.05 * ((x / 1.12) ** 2 + (y / 1.55) ** 2)) - 0.33)
        dx, dy = (points[..., 0] - nose[0]) / (0.19 * half), (points[..., 1] - nose[1]) / (0.28 * half)
        return relief + 0.19 * half * np.exp(-(dx**2) - dy**2)

    def _lift(self, points: np.ndarray) -> np.ndarray:
        """Share of the brows' lift that applies at points [...]."""
        half, centre = self._board.half_width, self._board.centre
        x, y = (points[..., 0] - centre[0]) / half, (points[..., 1] - centre[1]) / half
        return np.exp(-(((y + 0.22) / 0.17) ** 2) - (x / 0.9) ** 4)


def _brightness(board: Board) -> float:
    """Brightness of the face relative to a well-lit one."""
    x, y = np.round(board.pixels(board.centre)).astype(int)
    reach = max(2, round(0.4 * board.half_width * board.scale))
    face = board.picture[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
    return float(np.clip(face.mean() / 0.55, 0.35, 1.15))

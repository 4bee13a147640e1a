"""Eyes and mouth: the parts of the face that are drawn anew in every frame, as small premultiplied patches.

Patches are drawn at `OVERSAMPLE` times the texture's resolution with cv2's anti-aliased polygons and averaged down.
"""

from __future__ import annotations

import cv2
import numpy as np

from portrait.synthetic.canvas import MARGIN, ribbon
from portrait.synthetic.identity import Identity

OVERSAMPLE = 2
_SUB = 16
_T = np.linspace(-1, 1, 25)
_SMILE = np.clip(1 - _T**2, 0, 1)
_UPPER_LID, _LOWER_LID = _SMILE**0.62, _SMILE**0.8


class Patch:
    """A box of the head's texture that is redrawn in every frame.

    Args:
        scale: texture pixels per board side.
        x0, y0, x1, y1: the box in board sides.
    """

    def __init__(self, scale: int, x0: float, y0: float, x1: float, y1: float) -> None:
        self.scale = scale * OVERSAMPLE
        self.x, self.y = round((x0 + MARGIN) * scale), round((y0 + MARGIN) * scale)
        self.w, self.h = round((x1 - x0) * scale), round((y1 - y0) * scale)
        self._offset = ((MARGIN * self.scale - np.array([self.x, self.y]) * OVERSAMPLE) - 0.5) * _SUB
        self.sheet = np.zeros((self.h * OVERSAMPLE, self.w * OVERSAMPLE, 4), np.uint8)

    @property
    def box(self) -> tuple[slice, slice]:
        return slice(self.y, self.y + self.h), slice(self.x, self.x + self.w)

    def fixed(self, points: np.ndarray) -> np.ndarray:
        return np.rint(points * (self.scale * _SUB) + self._offset).astype(np.int32)

    def fill(self, points: np.ndarray, colour: np.ndarray) -> None:
        cv2.fillPoly(self.sheet, [self.fixed(points)], _colour(colour), cv2.LINE_AA, 4)

    def disc(self, x: float, y: float, r: float, colour: np.ndarray) -> None:
        (cx, cy) = self.fixed(np.array([x, y]))
        cv2.circle(
            self.sheet, (int(cx), int(cy)), round(r * self.scale * _SUB), _colour(colour), -1, cv2.LINE_AA, 4
        )

    def finish(self) -> np.ndarray:
        return cv2.resize(self.sheet, (self.w, self.h), interpolation=cv2.INTER_AREA)


def _colour(colour: np.ndarray) -> tuple[float, float, float, float]:
    r, g, b = colour
    return 255.0 * min(1.0, float(r)), 255.0 * min(1.0, float(g)), 255.0 * min(1.0, float(b)), 255.0


def over(base: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Premultiplied uint8 RGBA `top` over `base` of the same shape."""
    rest = cv2.bitwise_not(top[..., 3])
    rest = cv2.merge([rest, rest, rest, rest])
    return cv2.add(top, cv2.multiply(base, rest, scale=1 / 255))


class Mouth:
    """The mouth of one person.

    Args:
        person: whose.
        scale: texture pixels per board side.
        light: brightness of the lips, about 1.
    """

    def __init__(self, person: Identity, scale: int, light: float) -> None:
        self.person = person
        self.patch = Patch(scale, 0.39, person.mouth_y - 0.06, 0.61, person.mouth_y + 0.125)
        lips = np.array(person.lips) * light
        self.upper, self.lower, self.shine = lips * 0.84, lips, np.clip(lips * 1.13 + 0.035, 0, 1)
        self.corner = np.array(person.skin) * np.array([0.5, 0.38, 0.36]) * light

    def gap(self, opening: float) -> tuple[float, float]:
        """Heights of the inner edges of the upper and the lower lip at the mouth's centre line."""
        full = self.person.mouth_full * opening
        return self.person.mouth_y - 0.16 * full, self.person.mouth_y + 0.84 * full

    def half_width(self, opening: float, rounding: float) -> float:
        """Half the mouth's width; rounding -1 spread … 1 round."""
        return (
            self.person.mouth_width
            * (1 - 0.3 * max(rounding, 0) - 0.14 * min(rounding, 0))
            * (1 - 0.06 * opening)
        )

    def draw(self, opening: float, rounding: float) -> np.ndarray:
        """Premultiplied uint8 RGBA of the patch with the lips, teeth and tongue."""
        p, patch = self.person, self.patch
        patch.sheet[:] = 0
        w = self.half_width(opening, rounding)
        top, bottom = self.gap(opening)
        x = 0.5 + w * _T
        arch = _SMILE ** (0.75 - 0.2 * max(rounding, 0))
        corner = p.mouth_y + 0.25 * p.mouth_full * opening - 0.006 * (1 - 0.7 * opening)
        lifted = p.mouth_y - corner if opening <= 0.01 else 0.0  # closed lips: a line that smiles a little
        inner_top = corner + (top - corner) * arch
        inner_bottom = corner + (bottom - corner) * arch
        plump = 1 + 0.18 * max(rounding, 0) - 0.1 * opening
        bow = 1 + 0.16 * np.cos(_T * np.pi * 2.2) * (np.abs(_T) < 0.46) - 0.12 * np.exp(-((_T / 0.1) ** 2))
        outer_top = inner_top - p.lip_upper * plump * _SMILE**0.7 * np.where(np.abs(_T) < 0.6, bow, 1) - 0.001
        outer_bottom = inner_bottom + p.lip_lower * plump * _SMILE**0.6 + 0.001
        xo = 0.5 + (w + 0.003) * _T
        patch.fill(_between(xo, outer_top, np.maximum(inner_top, corner)), self.upper)
        patch.fill(
            _between(xo, np.minimum(inner_bottom, corner) if opening > 0.01 else inner_bottom, outer_bottom),
            self.lower,
        )
        patch.fill(_between(x, outer_top, inner_top), self.upper)
        gloss = inner_bottom + (outer_bottom - inner_bottom) * 0.3
        patch.fill(_between(0.5 + w * 0.5 * _T, gloss, gloss + p.lip_lower * 0.28 * _SMILE), self.shine)
        if opening > 0.01:
            patch.fill(_between(x, inner_top, inner_bottom), np.array([0.17, 0.05, 0.06]))
            self._tongue_and_teeth(x, inner_top, inner_bottom, opening)
        line = np.stack(
            [
                xo,
                inner_top
                if opening > 0.01
                else corner + lifted * _SMILE + 0.002 * np.cos(_T * np.pi * 2) * _SMILE,
            ],
            1,
        )
        patch.fill(
            ribbon(line, 0.0045 - 0.0018 * min(1.0, opening * 6) + 0 * xo),
            self.corner * (1 if opening < 0.05 else 0.7),
        )
        return cv2.GaussianBlur(patch.finish(), (3, 3), 0.55)

    def _tongue_and_teeth(self, x: np.ndarray, top: np.ndarray, bottom: np.ndarray, opening: float) -> None:
        inset = 0.5 + (x - 0.5) * 0.72
        gap = np.interp(inset, x, bottom - top)
        low = np.interp(inset, x, bottom)
        self.patch.fill(_between(inset, low - gap * 0.36 * _SMILE**0.5, low), np.array([0.5, 0.17, 0.18]))
        inset = 0.5 + (x - 0.5) * 0.78
        high, gap = np.interp(inset, x, top), np.interp(inset, x, bottom - top)
        depth = np.minimum(gap * 0.42, 0.0135) * _SMILE**0.3
        self.patch.fill(
            _between(inset, high, high + depth), np.array([0.86, 0.83, 0.78]) * (0.8 + 0.12 * opening)
        )


def _between(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    n = len(x)
    points = np.empty((2 * n, 2))
    points[:n, 0], points[:n, 1], points[n:, 0], points[n:, 1] = x, top, x[::-1], bottom[::-1]
    return points


class Eyes:
    """The two eyes of one person; arguments as for `Mouth`."""

    def __init__(self, person: Identity, scale: int, light: float) -> None:
        self.person, self.light = person, light
        self._drawn: dict[tuple[int, int, int], np.ndarray] = {}
        reach = person.eye_gap + person.eye_width * 1.5
        self.patch = Patch(scale, 0.5 - reach, person.eye_y - 0.045, 0.5 + reach, person.eye_y + 0.04)
        skin = np.array(person.skin) * light
        self.lash = np.array([0.09, 0.06, 0.05])
        self.crease, self.lower_line = skin * np.array([0.62, 0.52, 0.5]), skin * np.array([0.7, 0.58, 0.55])
        self.lid = skin * np.array([0.84, 0.75, 0.72])
        self.iris_r = min(0.0205, person.eye_width * 0.5)

    def draw(self, blink: float, gaze: tuple[float, float]) -> np.ndarray:
        """Premultiplied uint8 RGBA; blink 0 open … 1 shut, gaze in [-1, 1] to the right and down, in steps of 1/16."""
        key = (round(blink * 16), round(gaze[0] * 16), round(gaze[1] * 16))
        if key not in self._drawn:  # eyes rest: most frames repeat an earlier pair
            self._drawn[key] = self._draw(key[0] / 16, (key[1] / 16, key[2] / 16))
        return self._drawn[key]

    def _draw(self, blink: float, gaze: tuple[float, float]) -> np.ndarray:
        p, patch = self.person, self.patch
        height = p.eye_openness * p.eye_width
        patch.sheet[:] = 0
        for side in (-1, 1):
            cx = 0.5 + side * p.eye_gap
            patch.fill(self._almond(side, 1.0, 1.0), np.array([0.9, 0.88, 0.86]) * self.light)
            x, y = cx + gaze[0] * p.eye_width * 0.32, p.eye_y + gaze[1] * height * 0.25 - 0.001
            patch.disc(x, y, self.iris_r, np.array(p.iris) * 0.45)
            patch.disc(x, y, self.iris_r * 0.86, np.array(p.iris) * self.light)
            patch.disc(x, y + 0.004, self.iris_r * 0.6, np.clip(np.array(p.iris) * 1.35 * self.light, 0, 1))
            patch.disc(x, y, self.iris_r * 0.46, np.array([0.03, 0.03, 0.04]))
            patch.disc(x - 0.0065, y - 0.0065, self.iris_r * 0.25, np.array([0.98, 0.98, 1.0]))
            shade = self._lid_line(side, 1 - blink)
            patch.fill(
                np.vstack([shade, (shade + np.array([0, 0.007]))[::-1]]),
                np.array([0.42, 0.36, 0.36]) * self.light,
            )
        ball = patch.sheet
        mask = np.zeros(ball.shape[:2], np.uint8)
        for side in (-1, 1):
            cv2.fillPoly(mask, [patch.fixed(self._almond(side, 1 - blink, 1.0))], 255, cv2.LINE_AA, 4)
        eye = cv2.multiply(ball, cv2.merge([mask] * 4), scale=1 / 255)
        patch.sheet = np.zeros_like(ball)
        for side in (-1, 1):
            if blink > 0.05:
                patch.fill(
                    np.vstack([self._lid_line(side, 1.0), self._lid_line(side, 1 - blink)[::-1]]), self.lid
                )
        patch.sheet = over(patch.sheet, eye)
        self._draw_lines(blink)
        return cv2.GaussianBlur(patch.finish(), (3, 3), 0.5)

    def _draw_lines(self, blink: float) -> None:
        p = self.person
        for side in (-1, 1):
            upper = self._lid_line(side, 1 - blink)
            lower = self._lid_line(side, -1.0)
            self.patch.fill(ribbon(lower, 0.0028 * _SMILE + 0.0008), self.lower_line)
            crease = self._lid_line(side, 1.0) - np.array([0, 0.0105 - 0.003 * blink])
            self.patch.fill(ribbon(crease, 0.0034 * _SMILE + 0.0004), self.crease)
            weight = np.interp(_T * side, [-1, 0, 1], [0.0035, 0.0062, 0.0068]) * (1.2 if p.lipstick else 1.0)
            self.patch.fill(ribbon(upper - np.array([0, 0.001]), weight), self.lash)
            tail = upper[-1] if side > 0 else upper[0]
            flick = np.array([tail, tail + np.array([side * 0.008, -0.0035])])
            self.patch.fill(ribbon(flick, np.array([0.0055, 0.001])), self.lash)

    def _lid_line(self, side: int, lift: float) -> np.ndarray:
        """Edge of the upper (lift 1 open … 0 shut) or the lower (-1) lid, [N, 2] from left to right."""
        p = self.person
        height = p.eye_openness * p.eye_width
        # a shut lid rests on the lower one, so lift runs between the two
        low, high = height * 0.72 * _LOWER_LID, -height * 1.05 * _UPPER_LID
        y = low if lift < 0 else low * 0.8 + (high - low * 0.8) * lift
        x = p.eye_width * _T
        line = np.empty((len(_T), 2))
        line[:, 0], line[:, 1] = 0.5 + side * p.eye_gap + x, p.eye_y + y - x * p.eye_tilt * side
        return line

    def _almond(self, side: int, lift: float, grow: float) -> np.ndarray:
        return np.vstack([self._lid_line(side, lift), self._lid_line(side, -1.0)[::-1] * grow])

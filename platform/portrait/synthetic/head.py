"""The static layers of a head: hair behind it, the face without eyes and mouth, and what lies over the face.

Everything that does not move by itself is painted once per clip, lit from one direction through the
normals of an ellipsoid; `renderer.py` then only warps it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from portrait.synthetic.canvas import Canvas, Mask, curve, ribbon, value_noise
from portrait.synthetic.hair import paint_back_hair, paint_front_hair
from portrait.synthetic.identity import Identity

HEAD_Y = 0.455
"""Height of the head's centre."""
CROWN = 0.27
"""Height of the skull above the head's centre."""


@dataclass(frozen=True)
class Light:
    """One soft directional light."""

    direction: tuple[float, float, float]
    """Unit vector toward the light: x right, y down, z to the viewer."""
    ambient: float
    """Brightness in shadow."""
    warmth: float
    """-1 cool … 1 warm."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        vector = np.array([rng.uniform(-0.75, 0.75), rng.uniform(-0.75, -0.25), 0.85])
        x, y, z = vector / np.linalg.norm(vector)
        return cls(
            (float(x), float(y), float(z)), float(rng.uniform(0.5, 0.62)), float(rng.uniform(-0.7, 1.0))
        )

    def colour(self) -> np.ndarray:
        """The light's colour [3], about 1."""
        return np.array([1 + 0.035 * self.warmth, 1.0, 1 - 0.05 * self.warmth], np.float32)


def half_width(person: Identity, y: np.ndarray) -> np.ndarray:
    """Half the face's width at heights y, 0 outside it."""
    up = np.clip((HEAD_Y - y) / CROWN, 0, 1)
    down = np.clip((y - HEAD_Y) / (person.chin - HEAD_Y), 0, 1)
    upper = (1 - up**2.3) ** (1 / 2.3)
    lower = (1 - down**person.jaw) ** (1 / person.jaw) * (1 - person.taper * down)
    return person.face_width * np.where(y < HEAD_Y, upper, lower)


def face_outline(person: Identity, grow: float = 0.0) -> np.ndarray:
    """The face's outline [N, 2], `grow` wider on every side."""
    t = np.linspace(0, np.pi, 60)
    y = np.concatenate([HEAD_Y - CROWN * np.cos(t[:30]), HEAD_Y - (person.chin - HEAD_Y) * np.cos(t[30:])])
    x = half_width(person, y) + grow
    y = y + grow * np.sign(y - HEAD_Y) * np.abs((y - HEAD_Y) / CROWN)
    return np.vstack([np.stack([0.5 + x, y], 1), np.stack([0.5 - x, y], 1)[::-1]])


def lighting(canvas: Canvas, person: Identity, light: Light) -> np.ndarray:
    """Lambert shading of the head's ellipsoid, float32 [canvas, canvas] about 1 where lit."""
    nx = (canvas.x - 0.5) / (person.face_width * 1.25)
    ny = (canvas.y - HEAD_Y) / 0.36
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.02, 1))
    length = np.sqrt(nx**2 + ny**2 + nz**2)
    lambert = (nx * light.direction[0] + ny * light.direction[1] + nz * light.direction[2]) / length
    return (light.ambient + (1.08 - light.ambient) * np.clip(lambert * 0.6 + 0.45, 0, 1.05)).astype(
        np.float32
    )


def head_layers(person: Identity, light: Light, scale: int) -> tuple[Canvas, Canvas, Canvas]:
    """Paints the hair behind the head, the face without eyes and mouth, and what lies over the face.

    Args:
        person: who.
        light: from where the head is lit.
        scale: pixels per board side.

    Returns:
        Three canvases: back hair, face, overlay (front hair, hat, glasses).
    """
    back, face, over = Canvas(scale), Canvas(scale), Canvas(scale)
    detail = np.random.default_rng([person.seed, 2])  # moles, hair texture: the person's own, not the clip's
    shading = lighting(face, person, light)
    paint_back_hair(back, person, shading, np.random.default_rng([person.seed, 3]))
    skin = _skin(person, light, shading, detail)
    outline = face.polygon(face_outline(person))
    _paint_ears(face, person, skin)
    face.paint(outline, skin)
    _paint_relief(face, person, light, outline)
    _paint_nose(face, person, light)
    _paint_eye_sockets(face, person)
    _paint_blemishes(face, person, outline, detail)
    _paint_beard(face, person, shading, outline, detail)
    _paint_brows(face, person, detail)
    paint_front_hair(
        over, face, person, shading, outline=outline, rng=np.random.default_rng([person.seed, 4])
    )
    _paint_glasses(over, person, light, detail)
    return back, face, over


def _skin(person: Identity, light: Light, shading: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    tone = value_noise(rng, shading.shape, (9, 9), 4)[..., None] * np.array([0.02, 0.028, 0.03], np.float32)
    warm = np.clip(1.12 - shading, 0, 1)[..., None] * np.array(
        [0.05, -0.02, -0.05], np.float32
    )  # shadows of skin are redder
    return (
        np.array(person.skin, np.float32) * light.colour() * shading[..., None] * (1 + tone + warm)
    ).astype(np.float32)


def _paint_ears(canvas: Canvas, person: Identity, skin: np.ndarray) -> None:
    for side in (-1, 1):
        x = 0.5 + side * (person.face_width + 0.006)
        y, r = 0.475, person.ear
        ear = canvas.ellipse(x, y, 0.021 * r, 0.045 * r, angle=side * 0.18)
        canvas.paint(ear, skin)
        canvas.shade(ear, 0.9)
        canvas.shade(
            canvas.ellipse(
                x + side * 0.002, y + 0.002, 0.010 * r, 0.028 * r, soft=0.004, angle=side * 0.18
            ).inside(ear),
            0.72,
        )
        if person.earrings:
            ring_y = y + 0.052 * r
            canvas.paint(canvas.ellipse(x, ring_y, 0.009, 0.009), np.array([0.86, 0.72, 0.36]))
            canvas.paint(canvas.ellipse(x - 0.002, ring_y - 0.003, 0.003, 0.003), np.array([1, 0.97, 0.85]))


def _paint_relief(canvas: Canvas, person: Identity, light: Light, outline: Mask) -> None:
    """Cheeks, temples, forehead, chin: broad soft light and shade."""
    w, (lx, _, _) = person.face_width, light.direction
    skin = np.array(person.skin)
    blush = np.clip(skin * np.array([1.05, 0.78, 0.76]), 0, 1)
    for side in (-1, 1):
        canvas.tint(canvas.glow(0.5 + side * w * 0.62, 0.565, 0.04, 0.03).inside(outline), blush, 0.32)
        canvas.shade(
            canvas.glow(0.5 + side * w * 0.55, 0.525, 0.034, 0.02).inside(outline), 1.12 + 0.06 * side * lx
        )
        canvas.shade(
            canvas.glow(0.5 + side * w * 0.82, 0.62, 0.028, 0.06).inside(outline), 0.88 + 0.07 * side * lx
        )
        canvas.shade(canvas.glow(0.5 + side * w, 0.39, 0.022, 0.06).inside(outline), 0.92)
        fold = curve([(0.5 + side * 0.047, 0.555), (0.5 + side * 0.066, 0.59), (0.5 + side * 0.078, 0.625)])
        line = canvas.polygon(
            ribbon(fold, 0.006 * np.sin(np.linspace(0.1, np.pi - 0.1, len(fold)))), soft=0.004
        )
        canvas.shade(line, 0.93 - 0.12 * person.wrinkles)
    canvas.shade(canvas.glow(0.5 + 0.03 * lx, 0.345, 0.085, 0.035).inside(outline), 1.06)
    canvas.shade(canvas.glow(0.5 + 0.01 * lx, person.chin - 0.035, 0.03, 0.016).inside(outline), 1.07)
    canvas.shade(canvas.glow(0.5, person.mouth_y + 0.042, 0.032, 0.009), 0.84)
    canvas.shade(canvas.glow(0.5, person.chin + 0.005, 0.11, 0.012).inside(outline), 0.86)
    philtrum = canvas.glow(0.5, person.mouth_y - 0.032, 0.0065, 0.012)
    canvas.shade(philtrum, 0.93)
    for k in range(3):
        y = 0.325 + 0.018 * k
        line = curve([(0.43, y + 0.004), (0.5, y), (0.57, y + 0.004)])
        canvas.shade(canvas.stroke(line, 0.003, soft=0.002), 1 - 0.12 * max(0.0, person.wrinkles - 0.3))


def _paint_nose(canvas: Canvas, person: Identity, light: Light) -> None:
    y, w = person.nose_y, person.nose_width
    dark = -1 if light.direction[0] > 0 else 1
    bridge = curve(
        [
            (0.5 + dark * 0.017, person.eye_y - 0.012),
            (0.5 + dark * 0.012, y - 0.06),
            (0.5 + dark * w * 0.75, y - 0.015),
        ]
    )
    canvas.shade(canvas.stroke(bridge, 0.014, soft=0.008), 0.86)
    canvas.shade(canvas.glow(0.5 - dark * 0.004, y - 0.065, 0.01, 0.045), 1.17)
    canvas.shade(canvas.glow(0.5, y - 0.008, w * 0.8, 0.022), 1.03)
    canvas.shade(canvas.glow(0.5, y + 0.022, w * 0.9, 0.007), 0.78)
    canvas.shade(canvas.glow(0.5 - dark * 0.005, y - 0.006, 0.008, 0.008), 1.16)
    for side in (-1, 1):
        wing = curve(
            [
                (0.5 + side * w * 0.8, y - 0.02),
                (0.5 + side * w * 1.02, y - 0.003),
                (0.5 + side * w * 0.82, y + 0.014),
            ]
        )
        canvas.shade(canvas.stroke(wing, 0.006, soft=0.0025), 0.76)
        hole = canvas.ellipse(
            0.5 + side * w * 0.48, y + 0.011, w * 0.27, 0.0055, soft=0.0015, angle=side * -0.25
        )
        canvas.tint(hole, np.array(person.skin) * np.array([0.34, 0.24, 0.22]), 0.85)
    base = curve([(0.5 - w * 0.3, y + 0.017), (0.5, y + 0.021), (0.5 + w * 0.3, y + 0.017)])
    canvas.shade(canvas.stroke(base, 0.004, soft=0.002), 0.8)


def _paint_eye_sockets(canvas: Canvas, person: Identity) -> None:
    for side in (-1, 1):
        x = 0.5 + side * person.eye_gap
        canvas.shade(canvas.glow(x, person.eye_y - 0.008, person.eye_width * 1.05, 0.021), 0.78)
        canvas.shade(canvas.glow(x - side * person.eye_width, person.eye_y - 0.004, 0.014, 0.02), 0.86)
        canvas.shade(
            canvas.glow(x, person.eye_y + 0.033, person.eye_width * 0.8, 0.007), 0.93 - 0.08 * person.wrinkles
        )
        if person.lipstick:  # made-up lids go with painted lips
            canvas.tint(
                canvas.glow(x, person.eye_y - 0.012, person.eye_width * 0.75, 0.009),
                np.array(person.lips) * 0.7,
                0.3,
            )


def _paint_blemishes(canvas: Canvas, person: Identity, outline: Mask, rng: np.random.Generator) -> None:
    skin = np.array(person.skin)
    for _ in range(round(110 * person.freckles)):
        x, y = 0.5 + rng.normal(0, 0.07), 0.53 + rng.normal(0, 0.028)
        canvas.tint(
            canvas.ellipse(x, y, *rng.uniform(0.0014, 0.0032, 2)).inside(outline),
            skin * (0.78, 0.62, 0.5),
            rng.uniform(0.3, 0.75),
        )
    for _ in range(int(rng.integers(0, 4))):
        x, y = 0.5 + rng.uniform(-0.12, 0.12), rng.uniform(0.36, 0.68)
        canvas.tint(
            canvas.ellipse(x, y, 0.0035, 0.0035, soft=0.0008).inside(outline), skin * (0.45, 0.34, 0.3), 0.9
        )


def _paint_beard(
    canvas: Canvas, person: Identity, shading: np.ndarray, outline: Mask, rng: np.random.Generator
) -> None:
    if person.beard == "none":
        return
    hair = np.array(person.hair, np.float32) * 0.85
    grain = value_noise(rng, shading.shape, (70, 130), 2)
    colour = hair * (shading * (1 + 0.35 * grain))[..., None]
    m, c, w = person.mouth_y, person.chin, person.face_width
    moustache = [
        (0.5 - 0.068, m - 0.008),
        (0.46, m - 0.034),
        (0.5, m - 0.036),
        (0.54, m - 0.034),
        (0.568, m - 0.008),
        (0.54, m - 0.016),
        (0.5, m - 0.02),
        (0.46, m - 0.016),
    ]
    chin_patch = [
        (0.445, m + 0.045),
        (0.5, m + 0.038),
        (0.555, m + 0.045),
        (0.565, c - 0.015),
        (0.5, c + 0.012),
        (0.435, c - 0.015),
    ]
    sweep = [
        (0.5 - w * 1.02, 0.47),
        (0.5 - w * 0.8, 0.565),
        (0.5 - 0.085, m - 0.025),
        (0.5 - 0.078, m + 0.02),
        (0.46, m + 0.044),
        (0.5, m + 0.04),
        (0.54, m + 0.044),
        (0.5 + 0.078, m + 0.02),
        (0.5 + 0.085, m - 0.025),
        (0.5 + w * 0.8, 0.565),
        (0.5 + w * 1.02, 0.47),
    ]
    full = np.vstack([curve(sweep), [(0.5 + w * 1.2, 0.8), (0.5 - w * 1.2, 0.8)]])
    strength = 0.4 if person.beard == "stubble" else 0.93
    bristle = np.clip(0.8 + 0.5 * grain, 0, 1)
    if person.beard in ("stubble", "full"):
        canvas.tint(canvas.polygon(full, soft=0.008).inside(outline).times(bristle), colour, strength)
    if person.beard == "goatee":
        canvas.tint(
            canvas.polygon(np.array(chin_patch), soft=0.004).inside(outline).times(bristle), colour, strength
        )
    canvas.tint(
        canvas.polygon(curve([*moustache, moustache[0]], 60), soft=0.003).times(bristle), colour, strength
    )


def _paint_brows(canvas: Canvas, person: Identity, rng: np.random.Generator) -> None:
    hair = np.array(person.hair)
    colour = np.minimum(
        hair * 0.62, np.array(person.skin) * np.array([0.5, 0.44, 0.4])
    )  # always darker than the skin
    y0 = person.eye_y - person.brow_lift
    for side in (-1, 1):
        points = [(0.5 + side * (person.eye_gap + d * person.eye_width), y0 + h) for d, h in
                  ((-1.15, 0.0015), (-0.3, -person.brow_arch * 0.75), (0.5, -person.brow_arch), (1.35,
                  0.008))]  # fmt: skip
        line = curve(points)
        taper = np.interp(np.linspace(0, 1, len(line)), [0, 0.15, 0.6, 1], [0.65, 1, 0.8, 0.1])
        canvas.tint(canvas.polygon(ribbon(line, person.brow_thickness * taper), soft=0.0022), colour, 0.82)
        for _ in range(46):  # single hairs, leaning outward
            i = int(rng.integers(0, len(line) - 3))
            half = person.brow_thickness * taper[i] * 0.6
            x, y = line[i] + (0, rng.uniform(-half, half))
            tip = (x + side * rng.uniform(0.006, 0.012), y - rng.uniform(-0.002, 0.007))
            canvas.tint(canvas.stroke(np.array([(x, y), tip]), 0.0018), colour * rng.uniform(0.7, 1.25), 0.6)


def _paint_glasses(canvas: Canvas, person: Identity, light: Light, rng: np.random.Generator) -> None:
    if person.glasses == "none":
        return
    palette = [(0.07, 0.07, 0.09), (0.3, 0.17, 0.1), (0.55, 0.56, 0.6), (0.5, 0.1, 0.14), (0.12, 0.2, 0.38)]
    colour = np.array(palette[int(rng.integers(len(palette)))])
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = 1.0 if person.glasses == "round" else 0.55
    thick = 0.0075 if person.glasses != "half" else 0.006
    y = person.eye_y + 0.004
    for side in (-1, 1):
        x = 0.5 + side * (person.eye_gap + 0.003)
        rx, ry = 0.062, 0.046 if person.glasses == "round" else 0.038
        rim = np.stack(
            [
                x + rx * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power,
                y + ry * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power,
            ],
            1,
        )
        canvas.paint(canvas.polygon(rim), np.array([0.85, 0.93, 1.0]), 0.06)
        glint = np.array(
            [(x - 0.02, y - 0.026), (x - 0.008, y - 0.028), (x - 0.03, y + 0.02), (x - 0.038, y + 0.01)]
        )
        canvas.paint(canvas.polygon(glint, soft=0.002), np.ones(3), 0.1 + 0.08 * (light.direction[0] < 0))
        shown = rim if person.glasses != "half" else rim[np.argsort(t)][32:]
        canvas.paint(canvas.stroke(shown, thick, closed=person.glasses != "half"), colour)
        temple = np.array(
            [(x + side * 0.06, y - 0.012), (0.5 + side * (person.face_width + 0.004), y - 0.006)]
        )
        canvas.paint(canvas.stroke(temple, thick), colour * 0.8)
    bridge = curve(
        [(0.5 - person.eye_gap + 0.058, y - 0.01), (0.5, y - 0.02), (0.5 + person.eye_gap - 0.058, y - 0.01)]
    )
    canvas.paint(canvas.stroke(bridge, thick), colour)

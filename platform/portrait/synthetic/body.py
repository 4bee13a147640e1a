"""Neck, shoulders and clothes: one layer that only breathes and sways."""

from __future__ import annotations

import numpy as np

from portrait.synthetic.canvas import Canvas, curve
from portrait.synthetic.fabric import fabric
from portrait.synthetic.head import Light
from portrait.synthetic.identity import Identity


def body_layer(person: Identity, light: Light, rng: np.random.Generator, scale: int) -> Canvas:
    """Paints neck and clothes at `scale` pixels per board side; `rng` draws the clothes."""
    canvas = Canvas(scale)
    skin = np.array(person.skin, np.float32) * light.colour()
    n = person.neck_width
    across = 0.82 + 0.16 * np.clip((canvas.x - 0.5) / n * light.direction[0] + 0.4, -0.6, 1)
    left = curve([(0.5 - n, 0.55), (0.5 - n, 0.74), (0.5 - n * 1.25, 0.82), (0.5 - n * 2, 0.87)])
    neck = np.vstack([left, (left * (-1, 1) + (1, 0))[::-1]])
    shape = canvas.polygon(neck)
    canvas.paint(shape, (skin * across[..., None]).astype(np.float32))
    canvas.shade(
        canvas.glow(0.5 - 0.02 * light.direction[0], person.chin + 0.01, n * 1.2, 0.045).inside(shape), 0.55
    )
    for side in (-1, 1):
        canvas.shade(
            canvas.stroke(
                curve([(0.5 + side * n * 0.7, 0.74), (0.5 + side * n * 0.3, 0.86)]), 0.008, soft=0.006
            ),
            0.9,
        )
    _paint_clothes(canvas, person, light, skin, rng)
    return canvas


def _paint_clothes(
    canvas: Canvas, person: Identity, light: Light, skin: np.ndarray, rng: np.random.Generator
) -> None:
    n, slope, width = person.neck_width, rng.uniform(0.055, 0.1), rng.uniform(0.42, 0.5)
    collar_y = rng.uniform(0.805, 0.83)
    right = curve(
        [
            (0.5 + n * 1.02, collar_y - 0.02),
            (0.5 + n * 1.9, collar_y + 0.02),
            (0.5 + width * 0.8, collar_y + slope),
            (0.5 + width, collar_y + slope + 0.09),
            (0.5 + width + 0.03, 1.12),
        ]
    )
    left = np.stack([1 - right[:, 0], right[:, 1]], 1)
    neckline = str(rng.choice(["crew", "v", "shirt", "turtleneck", "scoop"]))
    depth = {"crew": 0.03, "v": 0.12, "shirt": 0.09, "turtleneck": -0.02, "scoop": 0.075}[neckline]
    if neckline in ("v", "shirt"):
        middle = np.array([(0.5, collar_y + depth)])
    else:
        middle = curve(
            [(0.5 - n * 1.02, collar_y - 0.02), (0.5, collar_y + depth), (0.5 + n * 1.02, collar_y - 0.02)]
        )[2:-2]
    shape = canvas.polygon(np.vstack([left[::-1], middle, right]))
    if neckline in ("v", "shirt", "scoop"):  # chest, or what is worn underneath
        chest = canvas.polygon(
            np.vstack([[(0.5 - n * 1.1, 0.8), (0.5 + n * 1.1, 0.8), (0.5 + n, 1.0), (0.5 - n, 1.0)]])
        )
        canvas.paint(chest, skin * 0.86)
        canvas.shade(canvas.glow(0.5, 0.8, n, 0.03).inside(chest), 0.85)
    cloth = fabric(rng, canvas, top=0.74)
    fold = 1 + 0.1 * np.sin(canvas.x * 16 + rng.uniform(0, 6)) * np.clip((canvas.y - 0.85) * 8, 0, 1)
    shading = (0.86 + 0.16 * (canvas.x - 0.5) * 2 * light.direction[0]) * fold
    canvas.paint(shape, (cloth * shading[..., None]).astype(np.float32))
    trim = float(rng.uniform(0.6, 1.25))
    for line in (left, right):
        canvas.shade(canvas.stroke(np.vstack([line[16:24]]), 0.004, soft=0.002).inside(shape), 0.8)
    if neckline == "turtleneck":
        roll = canvas.polygon(
            np.vstack(
                [
                    curve([(0.5 - n * 1.06, 0.77), (0.5, 0.795), (0.5 + n * 1.06, 0.77)]),
                    curve([(0.5 + n * 1.14, 0.83), (0.5, 0.855), (0.5 - n * 1.14, 0.83)]),
                ]
            )
        )
        canvas.paint(
            roll, (cloth * (shading * (0.92 + 0.08 * np.sin(canvas.x * 300)))[..., None]).astype(np.float32)
        )
        canvas.shade(canvas.glow(0.5, 0.78, n, 0.012).inside(roll), 0.75)
    elif neckline == "shirt":
        _paint_collar(canvas, n, collar_y, depth, rng)
    elif neckline in ("crew", "scoop"):
        canvas.shade(canvas.stroke(middle, 0.016), trim)
        canvas.shade(canvas.stroke(middle + np.array([0, 0.009]), 0.003), 0.7)
    if rng.random() < 0.3:
        _paint_necklace(canvas, n, collar_y, rng)


def _paint_collar(canvas: Canvas, n: float, collar_y: float, depth: float, rng: np.random.Generator) -> None:
    shirt = rng.uniform(0.75, 0.97, 3) * np.array([1, 1, 1.02])
    for side in (-1, 1):
        flap = np.array([(0.5 + side * n * 1.12, collar_y - 0.045), (0.5 + side * n * 1.3, collar_y + 0.01),
                         (0.5 + side * n * 0.75, collar_y + depth + 0.03), (0.5, collar_y + depth - 0.01),
                         (0.5 + side * n * 0.9, collar_y)])  # fmt: skip
        canvas.paint(canvas.polygon(flap), shirt)
        canvas.shade(canvas.stroke(flap[1:4], 0.004, soft=0.002), 0.7)
    if rng.random() < 0.5:
        tie = fabric(rng, canvas, kind=str(rng.choice(["stripes", "dots", "plain", "checks"])), top=0.8)
        y = collar_y + depth - 0.012
        canvas.paint(
            canvas.polygon(np.array([(0.475, y), (0.525, y), (0.515, y + 0.04), (0.485, y + 0.04)])),
            tie * 0.85,
        )
        canvas.paint(
            canvas.polygon(np.array([(0.486, y + 0.04), (0.514, y + 0.04), (0.54, 1.12), (0.46, 1.12)])), tie
        )
    else:
        for k in range(4):
            canvas.paint(canvas.ellipse(0.5, collar_y + depth + 0.02 + 0.045 * k, 0.006, 0.006), shirt * 0.8)


def _paint_necklace(canvas: Canvas, n: float, collar_y: float, rng: np.random.Generator) -> None:
    colour = np.array([(0.88, 0.76, 0.42), (0.8, 0.82, 0.86), (0.92, 0.9, 0.86)][int(rng.integers(3))])
    for x, y in curve(
        [(0.5 - n * 0.95, collar_y - 0.02), (0.5, collar_y + 0.045), (0.5 + n * 0.95, collar_y - 0.02)], 34
    ):
        canvas.paint(canvas.ellipse(float(x), float(y), 0.0045, 0.0045), colour)
        canvas.paint(canvas.ellipse(float(x) - 0.0012, float(y) - 0.0014, 0.0015, 0.0015), np.ones(3), 0.7)

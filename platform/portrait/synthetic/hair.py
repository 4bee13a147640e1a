"""Hair, hats and scarves of the synthetic heads: strands that flow from the crown, in ten styles."""

from __future__ import annotations

import cv2
import numpy as np

from portrait.synthetic.canvas import Canvas, Mask, curve, value_noise
from portrait.synthetic.fabric import fabric
from portrait.synthetic.identity import Identity

HEAD_Y, CROWN = 0.455, 0.27


def paint_back_hair(canvas: Canvas, person: Identity, shading: np.ndarray, rng: np.random.Generator) -> None:
    """What is seen behind the head and neck."""
    style, w = person.hair_style, person.face_width
    texture = _strands(canvas, person, shading * 0.72, rng)
    if style in ("long", "bob", "fringe"):
        bottom = {
            "long": rng.uniform(0.88, 1.0),
            "bob": rng.uniform(0.66, 0.74),
            "fringe": rng.uniform(0.7, 0.95),
        }[style]
        wave = rng.uniform(0.0, 0.012)
        out = w + rng.uniform(0.045, 0.075)
        ys = np.linspace(HEAD_Y - 0.02, bottom, 30)
        flare = np.interp(ys, [0.4, 0.6, 1.0], [0, 0.012, 0.03])
        right = np.stack([0.5 + out + flare + wave * np.sin(ys * 42), ys], 1)
        right[-6:, 0] -= np.linspace(0, 0.05, 6) ** 1.5 * 2
        left = np.stack([0.5 - out - flare - wave * np.sin(ys * 42 + 1), ys], 1)
        left[-6:, 0] += np.linspace(0, 0.05, 6) ** 1.5 * 2
        t = np.linspace(0, np.pi, 30)
        top = np.stack([0.5 + out * np.cos(t), HEAD_Y - 0.02 - (CROWN + 0.04) * np.sin(t)], 1)
        canvas.paint(canvas.polygon(np.vstack([top, left, right[::-1]])), texture)
    elif style == "curly":
        canvas.paint(_blobs(canvas, rng, w + 0.055, 0.3, size=0.035, low=0.55), texture)
    elif style == "bun":
        ball = canvas.ellipse(0.5 + rng.uniform(-0.02, 0.02), 0.135, 0.075, 0.07)
        canvas.paint(ball, texture)
        canvas.shade(canvas.glow(0.5, 0.19, 0.07, 0.02).inside(ball), 0.6)
    elif style == "headscarf":
        canvas.paint(
            canvas.polygon(_scarf_outline(w + 0.055, 0.86)),
            _scarf_cloth(canvas, person) * shading[..., None] * 0.72,
        )


def paint_front_hair(
    canvas: Canvas,
    face: Canvas,
    person: Identity,
    shading: np.ndarray,
    *,
    outline: Mask,
    rng: np.random.Generator,
) -> None:
    """What lies over the forehead and temples; its soft shadow falls on `face`."""
    style, w = person.hair_style, person.face_width
    if style == "headscarf":
        _paint_scarf(canvas, face, person, shading, outline)
        return
    texture = _strands(canvas, person, shading, rng)
    mask = _front_mask(canvas, person, rng)
    shadow = Mask(mask.y, mask.x, cv2.GaussianBlur(mask.values, (0, 0), 0.012 * canvas.scale))
    face.shade(shadow.inside(outline), 0.72)
    canvas.paint(mask, texture)
    if style in ("long", "bob") and rng.random() < 0.8:
        bottom = 0.66 if style == "bob" else 0.9
        for side in (-1, 1):
            lock = curve(
                [
                    (0.5 + side * (w * 0.8), 0.3),
                    (0.5 + side * (w + 0.012), 0.42),
                    (0.5 + side * (w + 0.02), 0.55),
                    (0.5 + side * (w + 0.015), bottom),
                ]
            )
            widths = np.interp(np.linspace(0, 1, len(lock)), [0, 0.4, 1], [0.02, 0.05, 0.03])
            outer = lock + np.stack([side * widths, np.zeros(len(lock))], 1)
            inner = lock - np.stack([side * widths * 0.3, np.zeros(len(lock))], 1)
            canvas.paint(canvas.polygon(np.vstack([outer, inner[::-1]]), soft=0.002), texture)
    if style == "beanie":
        _paint_beanie(canvas, face, person, shading, outline)
    _stray_hairs(canvas, person, rng)


def _front_mask(canvas: Canvas, person: Identity, rng: np.random.Generator) -> Mask:
    style, w = person.hair_style, person.face_width
    side_grow, top_grow, line_y, burn = {
        "crop": (0.012, 0.03, 0.295, 0.46), "side_part": (0.016, 0.05, 0.285, 0.47), "bob": (0.045, 0.04, 0.275, 0.56),
        "long": (0.04, 0.035, 0.265, 0.56), "curly": (0.03, 0.045, 0.3, 0.46), "bun": (0.01, 0.02, 0.265, 0.46),
        "fringe": (0.03, 0.035, 0.375, 0.58), "receding": (0.006, 0.006, 0.215, 0.45), "beanie": (0.01, 0.01,
        0.28, 0.5),
    }[style]  # fmt: skip
    t = np.linspace(np.pi * 1.02, -np.pi * 0.02, 50)
    outer = np.stack(
        [0.5 + (w + side_grow) * np.cos(t), HEAD_Y - 0.02 - (CROWN - 0.02 + top_grow) * np.sin(t)], 1
    )
    lean = rng.uniform(0.04, 0.09) * rng.choice([-1, 1])
    if style in ("side_part", "long", "bob"):
        peak = [(0.5 + lean, line_y - 0.035), (0.5 - lean * 0.6, line_y + 0.02)]
        peak = sorted(peak, key=lambda p: -p[0])
    elif style == "receding":
        peak = [(0.5 + 0.09, line_y - 0.015), (0.5, line_y + 0.025), (0.5 - 0.09, line_y - 0.015)]
    else:
        peak = [
            (0.5 + 0.07, line_y + rng.uniform(-0.01, 0.01)),
            (0.5, line_y + rng.uniform(-0.012, 0.012)),
            (0.5 - 0.07, line_y + rng.uniform(-0.01, 0.01)),
        ]
    inner_w = w - 0.006 if style != "fringe" else w - 0.028
    line = curve(
        [
            (0.5 + inner_w + 0.004, burn),
            (0.5 + inner_w - 0.012, line_y + 0.07),
            *peak,
            (0.5 - inner_w + 0.012, line_y + 0.07),
            (0.5 - inner_w - 0.004, burn),
        ],
        90,
    )
    rough = {"curly": 0.009, "fringe": 0.008}.get(style, 0.004)
    line[3:-3, 1] += rng.uniform(-rough, rough, len(line) - 6)  # tufts, not a drawn line
    drop = [(0.5 + w + side_grow, burn - 0.01)], [(0.5 - w - side_grow, burn - 0.01)]
    mask = canvas.polygon(np.vstack([drop[1], outer, drop[0], line]), soft=0.0018)
    if style == "curly":
        ring = _blobs(canvas, rng, w + 0.03, CROWN + 0.035, size=0.03, low=0.42)
        cut = canvas.polygon(np.vstack([line, [(0.5 - w * 0.98, 0.8), (0.5 + w * 0.98, 0.8)]]), soft=0.003)
        mask = ring.outside(cut)
    return mask


def _blobs(
    canvas: Canvas, rng: np.random.Generator, rx: float, ry: float, *, size: float, low: float
) -> Mask:
    """A head of curls: an oval with a bumpy rim."""
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    bumps = (
        np.abs(np.sin(t * 13 + rng.uniform(0, 6))) ** 0.6 * size * 0.6
        + np.abs(np.sin(t * 29 + rng.uniform(0, 6))) * size * 0.3
    )
    x = 0.5 + (rx + bumps) * np.cos(t)
    y = HEAD_Y - 0.03 - (ry + bumps) * np.sin(t)
    return canvas.polygon(np.stack([x, np.minimum(y, low + 0.3 * bumps)], 1), soft=0.003)


def _strands(canvas: Canvas, person: Identity, shading: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hair colour float32 [canvas, canvas, 3]: strands that radiate from the parting and fall, or curls."""
    if person.hair_style == "curly":
        n = value_noise(rng, shading.shape, (26, 26), 2)
        amount = 0.82 + 0.75 * np.abs(n) ** 0.7 - 0.3 * (np.abs(n) < 0.06)
    else:
        part = 0.5 + float(rng.uniform(-0.07, 0.07))
        bend = value_noise(rng, shading.shape, (3, 3), 2) * 0.14
        dx, dy = canvas.x - part, canvas.y - 0.13
        around = np.arctan2(dx, np.maximum(np.hypot(dx, dy) * 0.35, dy)) + bend * float(rng.uniform(0.4, 1.3))
        along = np.hypot(dx, dy)
        sheet = value_noise(rng, (96, 1024), (6, 150), 3)
        amount = 1 + 0.62 * cv2.remap(
            sheet, (around / np.pi + 0.5) * 1023 % 1023, np.clip(along * 90, 0, 95), cv2.INTER_LINEAR
        )
        amount += 0.32 * np.exp(-(((along - 0.16 - bend * 0.2) / 0.035) ** 2))  # sheen
    dark = np.array(person.hair, np.float32)
    light = np.clip(dark * 1.35 + 0.03, 0, 1)
    mix = np.clip((amount - 0.8) * 0.9, 0, 1)[..., None]
    return ((dark * (1 - mix) + light * mix) * (np.clip(amount, 0.35, 1.5) * shading)[..., None]).astype(
        np.float32
    )


def _stray_hairs(canvas: Canvas, person: Identity, rng: np.random.Generator) -> None:
    if person.hair_style in ("beanie", "receding"):
        return
    for _ in range(16):
        t = rng.uniform(0.2, np.pi - 0.2)
        x, y = 0.5 + (person.face_width + 0.01) * np.cos(t), HEAD_Y - 0.02 - (CROWN + 0.01) * np.sin(t)
        tip = (x + 0.03 * np.cos(t) + rng.normal(0, 0.015), y - 0.028 * np.sin(t) + rng.normal(0, 0.01))
        canvas.paint(
            canvas.stroke(curve([(x, y), ((x + tip[0]) / 2 + 0.006, (y + tip[1]) / 2), tip], 8), 0.0016),
            np.array(person.hair),
            0.6,
        )


def _paint_beanie(canvas: Canvas, face: Canvas, person: Identity, shading: np.ndarray, outline: Mask) -> None:
    rng = np.random.default_rng([person.seed, 6])
    w = person.face_width + 0.024
    t = np.linspace(np.pi, 0, 40)
    dome = np.stack([0.5 + w * np.cos(t), 0.315 - 0.205 * np.sin(t)], 1)
    cloth = fabric(rng, canvas, kind=str(rng.choice(["stripes", "knit", "zigzag"])), bottom=0.4)
    hat = canvas.polygon(np.vstack([dome, curve([(0.5 + w, 0.315), (0.5, 0.335), (0.5 - w, 0.315)])]))
    face.shade(canvas.glow(0.5, 0.35, 0.16, 0.015).inside(outline), 0.75)
    canvas.paint(hat, cloth * shading[..., None])
    band = canvas.polygon(
        np.vstack(
            [
                curve([(0.5 - w - 0.004, 0.265), (0.5, 0.28), (0.5 + w + 0.004, 0.265)]),
                curve([(0.5 + w + 0.006, 0.325), (0.5, 0.345), (0.5 - w - 0.006, 0.325)]),
            ]
        )
    )
    rib = 0.86 + 0.14 * np.sin(canvas.x * 420)
    canvas.paint(band, np.roll(cloth, 20, axis=0) * (shading * rib)[..., None])


def _scarf_outline(w: float, bottom: float) -> np.ndarray:
    t = np.linspace(np.pi, 0, 40)
    dome = np.stack([0.5 + w * np.cos(t), HEAD_Y - (CROWN + 0.045) * np.sin(t)], 1)
    return np.vstack(
        [
            dome,
            curve([(0.5 + w, HEAD_Y), (0.5 + w * 0.95, 0.65), (0.5 + w * 1.15, bottom)]),
            curve([(0.5 - w * 1.15, bottom), (0.5 - w * 0.95, 0.65), (0.5 - w, HEAD_Y)]),
        ]
    )


def _scarf_cloth(canvas: Canvas, person: Identity) -> np.ndarray:
    rng = np.random.default_rng([person.seed, 6])
    return fabric(rng, canvas, kind=str(rng.choice(["dots", "noise", "paisley", "plain"])))


def _paint_scarf(canvas: Canvas, face: Canvas, person: Identity, shading: np.ndarray, outline: Mask) -> None:
    w = person.face_width
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    x = 0.5 + (w - 0.012) * np.cos(t)
    hole = canvas.polygon(np.stack([x, 0.5 + np.where(np.sin(t) > 0, 0.34, 0.21) * np.sin(t)], 1), soft=0.002)
    whole = canvas.polygon(_scarf_outline(w + 0.03, 0.7))
    below = canvas.polygon(np.array([(0, 0.62), (1, 0.62), (1, 1.1), (0, 1.1)]))
    wrap = whole.outside(hole).outside(below)
    face.shade(
        Mask(wrap.y, wrap.x, cv2.GaussianBlur(wrap.values, (0, 0), 0.012 * canvas.scale)).inside(outline),
        0.72,
    )
    cloth = _scarf_cloth(canvas, person)
    folds = 1 + 0.1 * np.sin(np.hypot(canvas.x - 0.5, canvas.y - 0.75) * 70 + 3 * canvas.x)
    canvas.paint(wrap, cloth * (shading * folds)[..., None])

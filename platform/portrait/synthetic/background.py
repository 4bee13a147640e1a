"""Places behind the heads: richly textured, so that a reference picture is worth more than a few latent numbers."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from portrait.synthetic.canvas import value_noise

SIDE = 512
KINDS = ("bookshelf", "window", "leaves", "poster", "bricks", "wallpaper", "bokeh", "curtain", "panels")


def background(rng: np.random.Generator) -> np.ndarray:
    """A place, float32 RGB [SIDE, SIDE, 3] in [0, 1]."""
    kind = str(rng.choice(KINDS))
    image = np.clip(_PAINTERS[kind](rng), 0, 1).astype(np.float32)
    blur = rng.choice([0.0, 1.2, 2.5])
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), float(blur))
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    fall = 1 - rng.uniform(0.08, 0.22) * (axis[:, None] ** 2 + axis[None, :] ** 2) / 2
    side = 1 + rng.uniform(-0.12, 0.12) * axis[None, :]
    grain = 1 + 0.012 * rng.standard_normal((SIDE, SIDE)).astype(np.float32)
    return np.clip(image * (fall * side * grain)[..., None], 0, 1).astype(np.float32)


def _colour(
    rng: np.random.Generator,
    saturation: tuple[float, float],
    value: tuple[float, float],
    hue: float | None = None,
) -> np.ndarray:
    return np.array(
        colorsys.hsv_to_rgb(
            (rng.random() if hue is None else hue) % 1, rng.uniform(*saturation), rng.uniform(*value)
        ),
        np.float32,
    )


def _wall(rng: np.random.Generator) -> np.ndarray:
    wall = _colour(rng, (0.05, 0.4), (0.45, 0.85))
    plaster = 1 + 0.05 * value_noise(rng, (SIDE, SIDE), (14, 14), 4)
    return wall * plaster[..., None]


def _rectangle(  # noqa: PLR0917 - like cv2.rectangle
    image: np.ndarray, x0: float, y0: float, x1: float, y1: float, colour: np.ndarray
) -> None:
    cv2.rectangle(
        image,
        (round(x0 * 16), round(y0 * 16)),
        (round(x1 * 16), round(y1 * 16)),
        [float(c) for c in colour],
        -1,
        cv2.LINE_8,
        4,
    )


def _bookshelf(rng: np.random.Generator) -> np.ndarray:
    wood = _colour(rng, (0.3, 0.6), (0.2, 0.5), hue=rng.uniform(0.05, 0.1))
    image = np.ascontiguousarray(
        wood * 0.45 * (1 + 0.1 * value_noise(rng, (SIDE, SIDE), (3, 60), 2))[..., None]
    )
    rows = int(rng.integers(4, 6))
    height = SIDE / rows
    palette = [_colour(rng, (0.2, 0.85), (0.25, 0.85)) for _ in range(9)]
    for row in range(rows):
        x, floor = rng.uniform(-10, 0), (row + 1) * height - 10
        while x < SIDE:
            w, h = rng.uniform(9, 26), height * rng.uniform(0.55, 0.85)
            if rng.random() < 0.1:
                x += rng.uniform(8, 40)
                continue
            cover = palette[int(rng.integers(9))] * rng.uniform(0.7, 1.1)
            _rectangle(image, x, floor - h, x + w - 1, floor, cover)
            _rectangle(image, x, floor - h, x + 2, floor, cover * 1.25)
            for band in rng.uniform(0.1, 0.9, int(rng.integers(1, 4))):
                y = floor - h * band
                _rectangle(
                    image, x + 2, y, x + w - 3, y + rng.uniform(2, 9), cover * rng.choice([0.5, 1.6]) + 0.08
                )
            x += w
        _rectangle(image, 0, floor, SIDE, floor + 10, wood * (0.9 + 0.2 * rng.random()))
        _rectangle(image, 0, floor, SIDE, floor + 2, wood * 1.35)
    return image


def _leaves(rng: np.random.Generator) -> np.ndarray:
    hue = rng.choice([rng.uniform(0.22, 0.38), rng.uniform(0.06, 0.13)])
    image = np.ascontiguousarray(
        _colour(rng, (0.5, 0.8), (0.12, 0.3), hue=hue)
        * (1 + 0.4 * value_noise(rng, (SIDE, SIDE), (5, 5), 3))[..., None]
    )
    for depth in np.linspace(0.5, 1.3, 330):
        x, y = rng.uniform(-20, SIDE + 20, 2)
        size, turn = rng.uniform(10, 30) * depth, rng.uniform(0, 360)
        colour = _colour(rng, (0.4, 0.85), (0.25, 0.6), hue=hue + rng.normal(0, 0.03)) * depth
        cv2.ellipse(
            image,
            (round(x), round(y)),
            (round(size), round(size * rng.uniform(0.25, 0.45))),
            turn,
            0,
            360,
            [float(c) for c in colour],
            -1,
            cv2.LINE_AA,
        )
        rad = np.deg2rad(turn)
        tip = (round(x + size * np.cos(rad)), round(y + size * np.sin(rad)))
        cv2.line(image, (round(x), round(y)), tip, [float(c) for c in colour * 1.4], 1, cv2.LINE_AA)
    return image


def _window(rng: np.random.Generator) -> np.ndarray:
    image = np.ascontiguousarray(_wall(rng))
    x0, x1, y0, y1 = rng.uniform(10, 70), rng.uniform(440, 505), rng.uniform(5, 50), rng.uniform(400, 512)
    view = np.linspace(1, 0, SIDE, dtype=np.float32)[:, None, None] * _colour(
        rng, (0.2, 0.55), (0.8, 1.0), hue=rng.uniform(0.53, 0.62)
    )
    view = view + (1 - view[..., :1]) * 0.4
    horizon = rng.uniform(200, 330)
    for layer in range(4):
        ridge = horizon + layer * 35 + 40 * value_noise(rng, (2, SIDE), (2, 5 + 3 * layer), 3)[0]
        ground = _colour(rng, (0.25, 0.6), (0.25, 0.6), hue=rng.uniform(0.2, 0.45)) * (1.1 - 0.12 * layer)
        view = np.where(
            (np.arange(SIDE)[:, None] > ridge[None, :])[..., None],
            ground * (1 + 0.25 * value_noise(rng, (SIDE, SIDE), (30, 30), 2))[..., None],
            view,
        )
    ys, xs = slice(round(y0), round(y1)), slice(round(x0), round(x1))
    image[ys, xs] = view[ys, xs]
    frame = np.array([0.93, 0.92, 0.88], np.float32) * rng.uniform(0.35, 1.0)
    bars = int(rng.integers(2, 5))
    for k in range(bars + 1):
        x = x0 + (x1 - x0) * k / bars
        _rectangle(image, x - 6, y0 - 6, x + 6, y1 + 6, frame)
        _rectangle(image, x + 3, y0, x + 6, y1, frame * 0.75)
    for k in range(4):
        y = y0 + (y1 - y0) * k / 3
        _rectangle(image, x0 - 6, y - 6, x1 + 6, y + 6, frame)
        _rectangle(image, x0, y + 3, x1, y + 6, frame * 0.75)
    return image


def _poster(rng: np.random.Generator) -> np.ndarray:
    image = np.ascontiguousarray(_wall(rng))
    for x0, y0 in (
        (rng.uniform(5, 40), rng.uniform(10, 60)),
        (rng.uniform(340, 380), rng.uniform(10, 90)),
        (rng.uniform(5, 30), rng.uniform(290, 330)),
        (rng.uniform(370, 400), rng.uniform(280, 340)),
    ):
        w, h = rng.uniform(100, 140), rng.uniform(150, 210)
        _rectangle(
            image, x0 + 6, y0 + 8, x0 + w + 6, y0 + h + 8, image[round(y0) % SIDE, round(x0) % SIDE] * 0.6
        )
        _rectangle(image, x0, y0, x0 + w, y0 + h, _colour(rng, (0, 0.3), (0.1, 0.95)))
        base = _colour(rng, (0.3, 0.9), (0.3, 0.95))
        _rectangle(image, x0 + 7, y0 + 7, x0 + w - 7, y0 + h - 7, base)
        for _ in range(int(rng.integers(4, 10))):
            cx, cy = rng.uniform(x0 + 20, x0 + w - 20), rng.uniform(y0 + 20, y0 + h - 30)
            colour = [float(c) for c in _colour(rng, (0.2, 0.9), (0.2, 1.0))]
            if rng.random() < 0.5:
                cv2.circle(image, (round(cx), round(cy)), round(rng.uniform(5, 26)), colour, -1, cv2.LINE_AA)
            else:
                points = (np.array([(cx, cy)]) + rng.uniform(-28, 28, (3, 2))).clip(
                    (x0 + 8, y0 + 8), (x0 + w - 8, y0 + h - 8)
                )
                cv2.fillPoly(image, [np.round(points).astype(np.int32)], colour, cv2.LINE_AA)
        for k in range(3):
            _rectangle(
                image,
                x0 + 16,
                y0 + h - 28 + 6 * k,
                x0 + w * rng.uniform(0.5, 0.85),
                y0 + h - 25 + 6 * k,
                1 - base,
            )
    return image


def _bricks(rng: np.random.Generator) -> np.ndarray:
    hue = rng.choice([rng.uniform(0.01, 0.07), rng.uniform(0.5, 0.65)])
    image = np.ascontiguousarray(np.broadcast_to(_colour(rng, (0, 0.2), (0.4, 0.8)), (SIDE, SIDE, 3)).copy())
    h, w = rng.uniform(22, 40), rng.uniform(60, 110)
    for row in range(int(SIDE / h) + 1):
        for column in range(-1, int(SIDE / w) + 2):
            x, y = (column + 0.5 * (row % 2)) * w, row * h
            colour = _colour(rng, (0.25, 0.6), (0.3, 0.7), hue=hue + rng.normal(0, 0.01))
            _rectangle(image, x + 2, y + 2, x + w - 2, y + h - 2, colour)
    return image * (1 + 0.22 * value_noise(rng, (SIDE, SIDE), (60, 60), 3))[..., None]


def _wallpaper(rng: np.random.Generator) -> np.ndarray:
    base, second = _colour(rng, (0.1, 0.5), (0.3, 0.9)), _colour(rng, (0.1, 0.7), (0.3, 0.95))
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / rng.uniform(32, 64)
    choice = int(rng.integers(3))
    if choice == 0:
        m = np.sin(x * 2 * np.pi) * np.sin(y * 2 * np.pi) + 0.4 * np.sin(4 * np.pi * (x + y))
    elif choice == 1:
        m = (
            np.cos(8 * np.arctan2(y % 1 - 0.5, x % 1 - 0.5)) * 0.5
            + 0.9
            - 3 * np.hypot(y % 1 - 0.5, x % 1 - 0.5)
        )
    else:
        m = np.sin((x + 0.5 * np.abs(y % 2 - 1)) * 2 * np.pi)
    m = np.clip(m * 3 + 0.5, 0, 1)[..., None]
    return (base * (1 - m) + second * m) * (1 + 0.06 * value_noise(rng, (SIDE, SIDE), (6, 6), 4))[..., None]


def _bokeh(rng: np.random.Generator) -> np.ndarray:
    image = np.ascontiguousarray(
        _colour(rng, (0.4, 0.8), (0.1, 0.35))
        * np.linspace(0.6, 1.5, SIDE, dtype=np.float32)[:, None, None]
        * np.ones((1, SIDE, 1), np.float32)
    )
    hue = rng.random()
    for _ in range(70):
        disc = np.zeros_like(image)
        x, y, r = rng.uniform(0, SIDE), rng.uniform(0, SIDE), rng.uniform(8, 38)
        colour = _colour(rng, (0.2, 0.8), (0.5, 1.0), hue=hue + rng.normal(0, 0.08))
        x0, y0, x1, y1 = (int(np.clip(v, 0, SIDE)) for v in (x - r - 2, y - r - 2, x + r + 2, y + r + 2))
        disc = np.zeros((max(1, y1 - y0), max(1, x1 - x0), 3), np.float32)
        cv2.circle(
            disc, (round(x - x0), round(y - y0)), round(r), [float(c) for c in colour], -1, cv2.LINE_AA
        )
        cv2.circle(
            disc,
            (round(x - x0), round(y - y0)),
            round(r),
            [float(c) for c in np.clip(colour * 1.4, 0, 1)],
            2,
            cv2.LINE_AA,
        )
        image[y0 : y0 + disc.shape[0], x0 : x0 + disc.shape[1]] += disc[
            : SIDE - y0, : SIDE - x0
        ] * rng.uniform(0.15, 0.5)
    return image


def _curtain(rng: np.random.Generator) -> np.ndarray:
    x = np.linspace(0, 1, SIDE, dtype=np.float32)
    folds = np.sin((x * rng.uniform(5, 10) + 0.3 * value_noise(rng, (2, SIDE), (2, 6), 2)[0]) * 2 * np.pi)
    print_ = np.clip(value_noise(rng, (SIDE, SIDE), (18, 18), 2) * 6, 0, 1)[..., None]
    base = _colour(rng, (0.2, 0.7), (0.3, 0.8)) * (1 - print_) + _colour(rng, (0.2, 0.7), (0.3, 0.9)) * print_
    return base * (0.78 + 0.25 * folds)[None, :, None]


def _panels(rng: np.random.Generator) -> np.ndarray:
    wood = _colour(rng, (0.3, 0.6), (0.35, 0.7), hue=rng.uniform(0.04, 0.1))
    image = np.ones((SIDE, SIDE, 3), np.float32)
    w = rng.uniform(40, 90)
    for k in range(int(SIDE / w) + 1):
        xs = slice(round(k * w), min(SIDE, round((k + 1) * w)))
        width = xs.stop - xs.start
        if width < 2:
            continue
        ring = value_noise(rng, (SIDE, width), (3, 3), 2)
        grain = 0.9 + 0.14 * np.sin(ring * 24) + 0.08 * value_noise(rng, (SIDE, width), (4, 30), 2)
        image[:, xs] = wood * (grain * rng.uniform(0.8, 1.1))[..., None]
        image[:, xs.start : xs.start + 3] *= 0.4
    return image


_PAINTERS = {"bookshelf": _bookshelf, "window": _window, "leaves": _leaves, "poster": _poster, "bricks": _bricks,
             "wallpaper": _wallpaper, "bokeh": _bokeh, "curtain": _curtain, "panels": _panels}  # fmt: skip

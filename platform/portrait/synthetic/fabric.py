"""Cloth: patterned colour fields for clothes, hats and scarves."""

from __future__ import annotations

import colorsys

import numpy as np

from portrait.synthetic.canvas import MARGIN, Canvas, value_noise

KINDS = ("stripes", "checks", "noise", "knit", "dots", "zigzag", "plain", "paisley")


def fabric(
    rng: np.random.Generator, canvas: Canvas, kind: str | None = None, top: float = 0.0, bottom: float = 1.1
) -> np.ndarray:
    """Colour of a patterned cloth, float32 [canvas, canvas, 3] in [0, 1]; zero outside the heights `top` … `bottom`."""
    cloth = np.zeros((canvas.side, canvas.side, 3), np.float32)
    rows = slice(round((top + MARGIN) * canvas.scale), round((bottom + MARGIN) * canvas.scale))
    cloth[rows] = _pattern(rng, canvas.x[rows], canvas.y[rows], kind)
    return cloth


def _pattern(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, kind: str | None) -> np.ndarray:
    kind = kind or str(rng.choice(KINDS))
    hue = rng.random()
    base = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.25, 0.8), rng.uniform(0.3, 0.85)), np.float32)
    second = np.array(
        colorsys.hsv_to_rgb(
            (hue + rng.choice([0.08, 0.3, 0.5])) % 1, rng.uniform(0.1, 0.7), rng.uniform(0.25, 0.95)
        ),
        np.float32,
    )
    angle = float(rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]))
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    period = float(rng.uniform(0.025, 0.07))
    wobble = value_noise(rng, x.shape, (5, 5), 2) * 0.15
    if kind == "stripes":
        m = _edge(np.sin((u / period + wobble) * 2 * np.pi) - rng.uniform(-0.5, 0.5))
    elif kind == "checks":
        m = 0.5 * _edge(np.sin(u / period * 2 * np.pi)) + 0.5 * _edge(np.sin(v / period * 2 * np.pi))
    elif kind == "dots":
        m = _edge(0.09 - ((u / period) % 1 - 0.5) ** 2 - ((v / period) % 1 - 0.5) ** 2, 30)
    elif kind == "zigzag":
        m = _edge(np.sin((u / period + 0.5 * np.abs((v / period) % 2 - 1)) * 2 * np.pi))
    elif kind == "knit":
        m = 0.35 + 0.35 * np.sin(u * 380) * np.sin(v * 260) + 0.4 * value_noise(rng, x.shape, (6, 6), 3)
    elif kind == "paisley":
        m = _edge(np.sin(value_noise(rng, x.shape, (9, 9), 2) * 14))
    elif kind == "noise":
        m = 0.5 + 0.8 * value_noise(rng, x.shape, (22, 22), 3)
    else:
        m = np.zeros_like(x)
    m = np.clip(m, 0, 1)[..., None]
    threads = np.random.default_rng(
        rng.integers(2**32)
    )  # its own, so that what follows does not depend on the resolution
    weave = 1 + 0.045 * threads.standard_normal(x.shape, dtype=np.float32)
    return np.clip((base * (1 - m) + second * m) * weave[..., None], 0, 1).astype(np.float32)


def _edge(value: np.ndarray, sharp: float = 4.0) -> np.ndarray:
    return np.clip(value * sharp + 0.5, 0, 1)

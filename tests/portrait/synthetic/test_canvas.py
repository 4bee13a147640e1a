"""Painting: coverage has the area it should, paint and premultiplied colour keep their rules."""

import numpy as np
import pytest

from portrait.synthetic.canvas import Canvas, curve, ribbon, value_noise
from portrait.synthetic.features import over


def test_coverage_has_the_shapes_area() -> None:
    canvas = Canvas(400)
    square = np.array([(0.2, 0.2), (0.6, 0.2), (0.6, 0.5), (0.2, 0.5)])
    assert canvas.polygon(square).values.sum() / 400**2 == pytest.approx(0.4 * 0.3, rel=0.03)
    assert canvas.ellipse(0.5, 0.5, 0.2, 0.1).values.sum() / 400**2 == pytest.approx(np.pi * 0.02, rel=0.03)
    line = np.array([(0.1, 0.5), (0.9, 0.5)])
    assert canvas.stroke(line, 0.05).values.sum() / 400**2 == pytest.approx(0.8 * 0.05, rel=0.08)


def test_masks_cut_and_meet() -> None:
    canvas = Canvas(200)
    a, b = canvas.ellipse(0.4, 0.5, 0.2, 0.2), canvas.ellipse(0.6, 0.5, 0.2, 0.2)
    whole, cut, common = (m.values.sum() for m in (a, a.outside(b), a.inside(b)))
    assert cut + common == pytest.approx(whole, rel=1e-5)
    assert 0 < common < whole


def test_a_sheet_is_premultiplied() -> None:
    canvas = Canvas(100)
    canvas.paint(canvas.ellipse(0.5, 0.5, 0.3, 0.3, soft=0.05), np.array([1.0, 0.5, 0.0]))
    sheet = canvas.rgba(150)
    assert sheet.shape == (180, 180, 4)
    assert sheet.dtype == np.uint8
    assert (sheet[..., :3].max(2) <= sheet[..., 3]).all()


def test_over_is_porter_and_duffs() -> None:
    rng = np.random.default_rng(0)
    alpha = rng.integers(0, 256, (9, 9, 1))
    top = np.concatenate([rng.integers(0, 256, (9, 9, 3)) * alpha // 255, alpha], 2).astype(np.uint8)
    base = np.concatenate([rng.integers(0, 256, (9, 9, 3)), np.full((9, 9, 1), 255)], 2).astype(np.uint8)
    expected = top + base * (1 - alpha / 255)
    assert np.abs(over(base, top) - expected).max() <= 1.0


def test_curves_pass_through_their_points() -> None:
    points = [(0.0, 0.0), (0.3, 0.2), (0.6, 0.1), (1.0, 0.5)]
    line = curve(points, 301)
    for point in points:
        assert np.hypot(*(line - point).T).min() < 5e-3
    assert ribbon(line, np.full(301, 0.1)).shape == (602, 2)


def test_noise_is_reproducible_and_bounded() -> None:
    a = value_noise(np.random.default_rng(3), (64, 48), (4, 4))
    assert np.array_equal(a, value_noise(np.random.default_rng(3), (64, 48), (4, 4)))
    assert a.shape == (64, 48)
    assert np.abs(a).max() < 1.6
    assert a.std() > 0.1

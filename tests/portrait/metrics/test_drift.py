"""Sharpness and colour against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from portrait.metrics.drift import colour_distance, sharpness


def grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(np.round(picture).clip(0, 255).astype(np.uint8)[None, :, :, None], 3, axis=3)


def lightness(value: float) -> float:
    """L* of a grey sRGB value 0 … 255 (IEC 61966-2-1, CIE 1976)."""
    linear = value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4
    return 116 * linear ** (1 / 3) - 16 if linear > (6 / 29) ** 3 else linear * (29 / 3) ** 3


@pytest.mark.parametrize("period", [4, 8])
def test_sharpness_of_a_wave_is_its_closed_form(period: int) -> None:
    """The Laplacian of a·cos(ωx) is −a·(2 − 2·cos ω)·cos(ωx), whose variance is half its amplitude's square."""
    amplitude, omega = 100.0, 2 * np.pi / period
    wave = 128 + amplitude * np.cos(omega * np.arange(256))
    frames = grey(np.broadcast_to(wave, (64, 256)))
    expected = (amplitude / 255 * (2 - 2 * np.cos(omega))) ** 2 / 2
    assert sharpness(frames) == pytest.approx(expected, rel=0.05)


def test_sharpness_is_a_mean_over_frames() -> None:
    flat = grey(np.full((32, 32), 90.0))
    noisy = grey(np.random.default_rng(0).uniform(0, 255, (32, 32)))
    assert sharpness(flat) == 0
    assert sharpness(np.concatenate([flat, noisy])) == pytest.approx(sharpness(noisy) / 2)


def test_colour_distance_of_greys_is_the_difference_of_lightness() -> None:
    frames, references = grey(np.full((64, 64), 60.0)), grey(np.full((32, 32), 190.0))
    expected = lightness(190) - lightness(60)
    assert colour_distance(frames, references) == pytest.approx(expected, abs=0.05)
    assert colour_distance(frames, frames) == 0


def test_a_stain_counts_by_its_area_and_can_not_be_cancelled() -> None:
    clean = np.full((64, 64), 128.0)
    stained, balanced = clean.copy(), clean.copy()
    stained[:8, :8] = 228
    balanced[:8, :8], balanced[8:16, :8] = 228, 28
    one = colour_distance(grey(stained), grey(clean))
    assert one == pytest.approx((lightness(228) - lightness(128)) / 64, rel=0.02)
    assert colour_distance(grey(balanced), grey(clean)) > 1.5 * one


def test_order_and_number_of_frames_do_not_matter() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    references = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = colour_distance(frames, references)
    assert colour_distance(frames[::-1], references) == pytest.approx(found, rel=1e-5)
    assert colour_distance(np.concatenate([frames, frames]), references) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (8, 8, 3), (2, 8, 8, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"frames must be uint8 \[T, H, W, 3\]"):
        sharpness(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="frames must be uint8"):
        colour_distance(np.zeros(shape, np.uint8), np.zeros((1, 8, 8, 3), np.uint8))

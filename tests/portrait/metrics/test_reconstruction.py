"""PSNR and L1 against closed forms and an independent implementation."""

import math

import numpy as np
import pytest
import torch

from portrait.metrics.reconstruction import l1, psnr


def test_a_constant_difference_has_a_closed_form() -> None:
    a = torch.zeros(2, 3, 4, 8, 8)
    b = a.clone()
    b[0] += 0.2
    b[1] -= 0.02
    assert psnr(a, b).tolist() == pytest.approx(
        [20 * math.log10(2 / 0.2), 20 * math.log10(2 / 0.02)], rel=1e-5
    )
    assert l1(a, b).tolist() == pytest.approx([0.1, 0.01], rel=1e-5)  # on the scale of frames in [0, 1]


def test_l1_is_the_published_scale_of_frames_in_0_to_1() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 8, 8))
    a, b = (torch.from_numpy(frame / 127.5 - 1)[None] for frame in frames)
    assert l1(a, b).item() == pytest.approx(np.abs(frames[0] - frames[1]).mean() / 255, rel=1e-5)
    black, white = torch.full((1, 3, 1, 2, 2), -1.0), torch.ones(1, 3, 1, 2, 2)
    assert l1(black, white).item() == 1.0


def test_uniform_noise_has_the_error_of_its_variance() -> None:
    a = torch.zeros(1, 3, 64, 64, 16)
    b = torch.empty_like(a).uniform_(-0.1, 0.1)
    assert psnr(a, b).item() == pytest.approx(10 * math.log10(4 / (0.2**2 / 12)), abs=0.05)


def test_agrees_with_scikit_image() -> None:
    reference = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 3, 5, 16, 16))
    expected = [
        reference.peak_signal_noise_ratio(x, y, data_range=2) for x, y in zip(a[None], b[None], strict=True)
    ]
    assert psnr(torch.from_numpy(a)[None], torch.from_numpy(b)[None]).tolist() == pytest.approx(
        expected, rel=1e-5
    )


def test_clips_are_measured_apart_and_equal_ones_are_infinite() -> None:
    a, b = torch.rand(3, 3, 2, 4, 4), torch.rand(3, 3, 2, 4, 4)
    together = psnr(a, b)
    assert together.tolist() == pytest.approx([psnr(a[i : i + 1], b[i : i + 1]).item() for i in range(3)])
    assert psnr(a, a).isinf().all()
    assert (l1(a, a) == 0).all()


def test_half_precision_is_measured_in_single() -> None:
    a, b = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    assert psnr(a.half(), b.half()).item() == pytest.approx(psnr(a, b).item(), abs=0.01)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (4,), (0, 3)])
def test_shapes_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a and b"):
        psnr(torch.zeros(shape), torch.zeros(1, 3, 4, 4) if len(shape) == 4 else torch.zeros(shape))

"""Rotary positions: a rotation, relative, and equal to complex multiplication."""

from __future__ import annotations

import pytest
import torch

from portrait.layers.rotary import apply_rotary, rotary_angles

DIMS = (12, 10, 10)


def test_products_depend_on_the_difference_of_positions_only():
    query, key = torch.randn(32, dtype=torch.float64), torch.randn(32, dtype=torch.float64)
    first, second = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[7.0, 0.0, 5.0]])
    offset = torch.tensor([[11.0, 2.0, -4.0]])

    def product(a, b):
        turned_query = apply_rotary(query[None], rotary_angles(a, DIMS, 100.0))
        return (turned_query * apply_rotary(key[None], rotary_angles(b, DIMS, 100.0))).sum()

    torch.testing.assert_close(
        product(first, second), product(first + offset, second + offset), atol=1e-4, rtol=0
    )
    assert (product(first, second) - product(first + offset, second)).abs() > 1e-2


def test_equals_multiplication_by_unit_complex_numbers():
    positions = torch.arange(6.0)[:, None]
    x = torch.randn(6, 8)
    frequencies = torch.tensor([1.0, 1 / 10, 1 / 100, 1 / 1000])
    turned = torch.view_as_complex(x.view(6, 4, 2)) * torch.exp(1j * positions * frequencies)
    actual = apply_rotary(x, rotary_angles(positions, (8,), 10_000.0))
    torch.testing.assert_close(actual, torch.view_as_real(turned).flatten(1))


def test_each_axis_turns_its_own_channels():
    angles = rotary_angles(torch.tensor([[0.0, 5.0, 0.0]]), DIMS, 100.0)
    assert angles.shape == (1, 16)
    assert (angles[0, :6] == 0).all()
    assert (angles[0, 11:] == 0).all()
    assert (angles[0, 6:11] > 0).all()


def test_wrong_axes_and_odd_channels_are_refused():
    with pytest.raises(ValueError, match="2 axes, dims has 3"):
        rotary_angles(torch.zeros(4, 2), DIMS, 100.0)
    with pytest.raises(ValueError, match="even"):
        rotary_angles(torch.zeros(4, 2), (3, 4), 100.0)

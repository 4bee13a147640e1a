"""Timesteps: closed forms of the shift and of the training's density."""

from __future__ import annotations

import pytest
import torch

from portrait.generator.timesteps import sampling_timesteps, shift_timesteps, training_timesteps


def test_the_papers_steps():
    timesteps = sampling_timesteps(12, 5.0)
    expected = [5 * t / (1 + 4 * t) for t in (i / 12 for i in range(12, -1, -1))]
    torch.testing.assert_close(timesteps, torch.tensor(expected))
    assert (timesteps[0], timesteps[-1]) == (1, 0)
    assert (timesteps.diff() < 0).all()


def test_shift_one_spaces_evenly_and_shifts_compose():
    torch.testing.assert_close(sampling_timesteps(4, 1.0), torch.tensor([1, 0.75, 0.5, 0.25, 0]))
    timestep = torch.linspace(0, 1, 11)
    torch.testing.assert_close(
        shift_timesteps(shift_timesteps(timestep, 2.0), 3.0), shift_timesteps(timestep, 6.0)
    )


def test_training_draws_have_the_shifted_density():
    draws = training_timesteps((40_000,), 3.0, torch.Generator().manual_seed(0))
    for t in (0.1, 0.5, 0.75, 0.95):
        # P(timestep < t) is the shift's inverse at t
        assert float((draws < t).float().mean()) == pytest.approx(t / (3 - 2 * t), abs=0.01)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"sampling\.steps"):
        sampling_timesteps(0, 5.0)

"""The path's identities: from data to noise along a straight line."""

from __future__ import annotations

import torch

from portrait.generator.flow import interpolate, per_latent, velocity


def test_the_path_leads_from_data_to_noise_at_its_velocity():
    clean, noise = torch.randn(5), torch.randn(5)
    assert torch.equal(interpolate(clean, noise, torch.tensor(0.0)), clean)
    assert torch.equal(interpolate(clean, noise, torch.tensor(1.0)), noise)
    timestep = torch.tensor(0.3, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda t: interpolate(clean, noise, t), timestep)
    torch.testing.assert_close(slope.float(), velocity(clean, noise))


def test_every_latent_of_a_block_has_the_blocks_timestep():
    timestep = torch.tensor([[0.1, 0.9]])
    spread = per_latent(timestep)
    assert spread.shape == (1, 1, 8, 1, 1)
    assert torch.equal(spread.flatten(), torch.tensor([0.1] * 4 + [0.9] * 4))

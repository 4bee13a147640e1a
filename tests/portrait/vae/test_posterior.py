"""The posterior against torch's distributions."""

from __future__ import annotations

import torch
from torch.distributions import Normal, kl_divergence

from portrait.vae import Posterior


def test_kl_is_that_of_torchs_distributions() -> None:
    mean, log_variance = torch.randn(2, 3, 2, 2, 2), torch.randn(2, 3, 2, 2, 2)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    torch.testing.assert_close(Posterior(mean, log_variance).kl(), expected)


def test_samples_have_the_posteriors_moments() -> None:
    mean, log_variance = torch.full((1, 1, 1, 200, 200), 2.0), torch.full((1, 1, 1, 200, 200), -1.0)
    sample = Posterior(mean, log_variance).sample(torch.Generator().manual_seed(0))
    assert abs(float(sample.mean()) - 2.0) < 0.02
    assert abs(float(sample.var()) - torch.exp(torch.tensor(-1.0)).item()) < 0.02


def test_moments_are_mean_then_log_variance_within_bounds() -> None:
    moments = torch.cat([torch.zeros(1, 2, 1, 1, 1), torch.full((1, 2, 1, 1, 1), 1e9)], dim=1)
    posterior = Posterior.from_moments(moments)
    assert posterior.mean.abs().max() == 0
    assert torch.isfinite(posterior.kl()).all()

"""The diagonal Gaussian posterior q(z | video) (Kingma & Welling, arXiv 1312.6114).

Shapes: B batch, C_z latent channels, L latent steps, h × w latent pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """Mean and log-variance of the latents, each [B, C_z, L, h, w]."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Posterior:
        """Splits the encoder's output [B, 2·C_z, L, h, w]; log-variances are kept within a range that exp survives."""
        mean, log_variance = moments.chunk(2, dim=1)
        return cls(mean, log_variance.clamp(-30.0, 20.0))

    def sample(self, rng: torch.Generator | None = None) -> Tensor:
        """A draw by the reparameterisation z = μ + σ·ε, [B, C_z, L, h, w].

        Args:
            rng: where ε is drawn, on `rng`'s device; by default PyTorch's global generator of the mean's device.
        """
        device = self.mean.device if rng is None else rng.device
        noise = torch.randn(self.mean.shape, generator=rng, device=device).to(self.mean)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(q ‖ N(0, 1)) in nats, summed over each clip's latents: [B]."""
        divergence = 0.5 * (self.mean**2 + self.log_variance.exp() - 1.0 - self.log_variance)
        return divergence.flatten(1).sum(dim=1)

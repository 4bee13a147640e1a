"""The one place where latents are normalised: z ↦ (z − mean) / std for each channel.

Everything outside the generator (the VAE, the latents table, batches, streams) has latents as the VAE gives them; the
flow's path, and so the transformer, has them with zero mean and unit deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class LatentNormaliser(nn.Module):
    """Per-channel statistics of the latents that a generator is trained on, kept as buffers."""

    mean: Tensor
    """float32 [C]."""
    std: Tensor
    """float32 [C], positive."""

    def __init__(self, channels: int, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        """A normaliser with the given statistics; by default, or until weights are loaded, it changes nothing."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels) if mean is None else mean.detach().clone())
        self.register_buffer("std", torch.ones(channels) if std is None else std.detach().clone())

    def forward(self, latents: Tensor, channel_dim: int = -4) -> Tensor:
        """Latents of the VAE to zero mean and unit deviation.

        Args:
            latents: [..., C, L, h, w], or any shape with C channels in `channel_dim`.
            channel_dim: the channels' dimension, counted from the end.

        Returns:
            The same shape, in float32.
        """
        return (latents.float() - self._shaped(self.mean, channel_dim)) / self._shaped(self.std, channel_dim)

    def inverse(self, latents: Tensor) -> Tensor:
        """Normalised latents [..., C, L, h, w] to those of the VAE, in float32."""
        return latents.float() * self._shaped(self.std, -4) + self._shaped(self.mean, -4)

    @staticmethod
    def _shaped(statistic: Tensor, channel_dim: int) -> Tensor:
        return statistic.view(-1, *[1] * (-channel_dim - 1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves to another device, but stays in float32 when the model is cast to bfloat16."""
        exact = {"mean": self.mean, "std": self.std}
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            self._buffers[name] = buffer.to(getattr(self, name).device)
        return self

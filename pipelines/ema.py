"""Exponential moving average of a model's weights, in float32."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class WeightAverage:
    """Averages weights into a separate module, which is what is evaluated and exported.

    After n steps the decay is min(decay, (1 + n) / (10 + n)), so that a new average soon forgets the initial weights.

    Args:
        module: becomes the average; in float32, evaluation mode and without gradients.
        decay: decay per optimiser step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module.float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(
        self, weights: Iterable[torch.Tensor], buffers: Iterable[torch.Tensor], *, steps: int = 1
    ) -> None:
        """Moves the average towards `weights`; buffers are copied.

        Args:
            weights: current weights, in the order of the module's parameters.
            buffers: current buffers, in the order of the module's buffers.
            steps: optimiser steps since the last update; the decay is raised to this power.
        """
        averages: list[torch.Tensor] = list(self.module.parameters())
        current = [
            weight.detach().to(average.device, torch.float32)
            for weight, average in zip(weights, averages, strict=True)
        ]
        torch._foreach_lerp_(averages, current, 1 - self.current_decay() ** steps)
        for mine, theirs in zip(self.module.buffers(), buffers, strict=True):
            mine.copy_(theirs)
        self.updates += steps

    def current_decay(self) -> float:
        """Decay per step at the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]

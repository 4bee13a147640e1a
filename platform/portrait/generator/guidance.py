"""Classifier-free guidance by speech and references, each with its own scale.

v = v(∅,∅) + λ_r·[v(r,∅) − v(∅,∅)] + λ_a·[v(r,a) − v(r,∅)]. At λ_a = λ_r the middle term cancels and two passes do; at
λ_a = λ_r = 1 the conditional pass alone does (Ho & Salimans 2022, arXiv 2207.12598).

Shapes: B sessions or rows of a batch, P passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from portrait.generator.config import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """The passes of one evaluation of the velocity: which conditions each drops, and its weight in the sum."""

    drop_speech: tuple[bool, ...]
    """Passes whose speech is the null embedding."""
    drop_references: tuple[bool, ...]
    """Passes whose references are the null embedding."""
    weights: tuple[float, ...]
    """Weight of each pass's velocity; they sum to 1."""

    @classmethod
    def of(cls, sampling: SamplingConfig) -> Guidance:
        """The fewest passes that give the guided velocity."""
        audio, reference = sampling.audio_guidance, sampling.reference_guidance
        if audio != reference:
            return cls.three_passes(audio, reference)
        if audio == 1:
            return cls(drop_speech=(False,), drop_references=(False,), weights=(1.0,))
        return cls(drop_speech=(False, True), drop_references=(False, True), weights=(audio, 1 - audio))

    @classmethod
    def three_passes(cls, audio: float, reference: float) -> Guidance:
        """v(r,a), v(r,∅) and v(∅,∅), at any scales."""
        return cls(
            drop_speech=(False, True, True),
            drop_references=(False, False, True),
            weights=(audio, reference - audio, 1 - reference),
        )

    @property
    def passes(self) -> int:
        """P, evaluations of the generator for one guided velocity."""
        return len(self.weights)

    def combine(self, velocities: Tensor) -> Tensor:
        """Velocities [B·P, …], a session's passes side by side → guided velocities [B, …]."""
        by_pass = velocities.unflatten(0, (-1, self.passes))
        weights = torch.tensor(self.weights, device=velocities.device, dtype=velocities.dtype)
        return torch.einsum("p,bp...->b...", weights, by_pass)

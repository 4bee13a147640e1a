"""Fixtures for the tests of the models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from portrait.generator import Generator


@pytest.fixture(scope="session")
def randomised() -> Callable[[Generator], Generator]:
    """Adds random numbers to all weights of a generator, also where training starts from zero."""

    def add(model: Generator) -> Generator:
        rng = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in model.parameters():
                spread = 0.6 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.1
                parameter.add_(spread * torch.randn(parameter.shape, generator=rng))
            model.normaliser.mean.normal_(generator=rng)
            model.normaliser.std.uniform_(0.5, 2.0, generator=rng)
        return model.eval()

    return add

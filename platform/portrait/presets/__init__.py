"""Presets: complete, typed configurations of a system. `tiny` runs on a laptop, `paper` has the paper's sizes."""

from __future__ import annotations

from portrait.presets.paper import PAPER
from portrait.presets.preset import Preset, VideoConfig
from portrait.presets.small import SMALL
from portrait.presets.tiny import TINY
from portrait.presets.training import (
    GeneratorTrainingConfig,
    OptimizerConfig,
    VAETrainingConfig,
    VAETrainingStage,
)

_PRESETS = {preset.name: preset for preset in (TINY, SMALL, PAPER)}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_PRESETS)


def load(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ValueError: no preset has that name.
    """
    if name not in _PRESETS:
        raise ValueError(f"unknown preset {name!r}; known presets: {', '.join(_PRESETS)}")
    return _PRESETS[name]


__all__ = [
    "GeneratorTrainingConfig",
    "OptimizerConfig",
    "Preset",
    "VAETrainingConfig",
    "VAETrainingStage",
    "VideoConfig",
    "load",
    "names",
]

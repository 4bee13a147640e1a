"""The starter weights that ship with the package, trained by the project's own jobs on synthetic heads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"
"""Holds `<preset>/vae.safetensors` and `<preset>/generator.safetensors`."""


@dataclass(frozen=True, kw_only=True)
class StarterWeights:
    """A VAE and the generator trained on its latents."""

    vae: Path
    """File for `checkpoints.load_vae`."""
    generator: Path
    """File for `checkpoints.load_generator`."""


def starter_weights(preset_name: str, folder: Path = WEIGHTS_FOLDER) -> StarterWeights | None:
    """The starter weights of a preset; None unless both files ship with it."""
    vae = folder / preset_name / "vae.safetensors"
    generator = folder / preset_name / "generator.safetensors"
    if not (vae.is_file() and generator.is_file()):
        return None
    return StarterWeights(vae=vae, generator=generator)

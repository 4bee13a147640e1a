"""Packs a trained VAE and generator in half precision.

python -m jobs.package_weights --vae FILE --generator FILE --output DIR
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from jobs import command_line
from portrait.storage.checkpoints import load_generator, load_vae, read_header, save_model
from portrait.storage.starter_weights import StarterWeights

HALF = torch.float16


@dataclass(frozen=True, kw_only=True)
class PackageWeights:
    """Writes a VAE and the generator that was trained on it into one folder, in half precision: half the size.

    `jobs.generate`, `jobs.serve` and `--init` take these files. In platform/portrait/weights/PRESET they are the
    preset's starter weights.
    """

    vae: Path
    """File of the VAE."""
    generator: Path
    """File of the generator, which must have been trained on this VAE's latents."""
    output: Path
    """Folder that vae.safetensors and generator.safetensors are written to."""


def main(config: PackageWeights) -> StarterWeights:
    """Packs both files and prints their paths.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: one of them is another kind of model, they do not belong together, or a weight exceeds half
            precision.
    """
    vae_header, header = read_header(config.vae), read_header(config.generator)
    trained_on = header.extra.get("vae_version")
    if trained_on != vae_header.latents_version:
        raise ValueError(
            f"--generator {config.generator} was trained on latents of VAE {trained_on or '(not recorded)'}, "
            f"but --vae {config.vae} makes those of VAE {vae_header.latents_version}; give a matching pair"
        )
    vae, generator = load_vae(config.vae), load_generator(config.generator)
    for path, model in ((config.vae, vae), (config.generator, generator)):
        _check_range(path, model)
    packed = StarterWeights(
        vae=config.output / "vae.safetensors", generator=config.output / "generator.safetensors"
    )
    written = save_model(
        packed.vae, vae, kind="vae", preset=vae_header.preset, extra=vae_header.extra, dtype=HALF
    )
    # The packed generator refers to the packed VAE, so that the two still belong together.
    extra = {**header.extra, "vae_version": written.latents_version}
    save_model(packed.generator, generator, kind="generator", preset=header.preset, extra=extra, dtype=HALF)
    for path in (packed.vae, packed.generator):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return packed


def _check_range(path: Path, model: torch.nn.Module) -> None:
    most = torch.finfo(HALF).max
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not weight.abs().max() <= most:
            raise ValueError(
                f"{path}: {name} has NaN or values beyond ±{most:.0f}, the range of half precision"
            )


if __name__ == "__main__":
    command_line.run(main, PackageWeights)

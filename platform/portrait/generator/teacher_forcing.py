"""What the losses of the generator share: a batch of windows becomes noised history, conditions and a loss mask.

Teacher forcing: every block of a window is denoised at once, each given the true history before it, lightly noised, so
that the model tolerates the errors of its own history at inference (paper, "Blockwise autoregressive latent
generation").

A batch is a mapping with "latents" [B, C, L, H, W] and "reference_latents" [B, M, C, H, W] as the VAE gives them,
"speech" [B, T, F], "is_first" [B] bool, and, where latents or references are missing, "latent_mask" [B, L] and
"reference_mask" [B, M], True where there is one.

Shapes: B batch, M references, L latents of a window, C = C_z, H W latent pixels, N blocks, T frames, F speech features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from portrait.generator.flow import interpolate, per_latent
from portrait.generator.model import Generator
from portrait.timing import LATENTS_PER_BLOCK


def clean_latents(generator: Generator, batch: Mapping[str, Tensor]) -> Tensor:
    """z⁰ [B, C, L, H, W]: the batch's latents, normalised; padding is 0, the mean."""
    clean_BCLHW = generator.normalise(batch["latents"])
    if "latent_mask" not in batch:
        return clean_BCLHW
    return clean_BCLHW.masked_fill(~batch["latent_mask"].bool()[:, None, :, None, None], 0.0)


def draw_noise(clean_BCLHW: Tensor, rng: torch.Generator) -> Tensor:
    """ε ~ N(0, 1) for every value of z⁰, drawn on the CPU."""
    return torch.randn(clean_BCLHW.shape, generator=rng).to(clean_BCLHW.device)


def draw_history_timestep(clean_BCLHW: Tensor, most: float, rng: torch.Generator) -> Tensor:
    """[B, N], drawn uniformly from 0 … `most`: one timestep for a whole window, as at inference, where it is 0."""
    rows, blocks = clean_BCLHW.shape[0], clean_BCLHW.shape[2] // LATENTS_PER_BLOCK
    return (torch.rand((rows, 1), generator=rng).to(clean_BCLHW.device) * most).expand(-1, blocks)


def noised_history(clean_BCLHW: Tensor, timestep_BN: Tensor, rng: torch.Generator) -> Tensor:
    """The true history at its timestep."""
    return interpolate(clean_BCLHW, draw_noise(clean_BCLHW, rng), per_latent(timestep_BN))


def draw_conditions(batch: Mapping[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
    """The conditions of a window as keyword arguments of `Generator.forward`, some of the references masked."""
    conditions = {
        "references": batch["reference_latents"],
        "reference_mask": random_reference_mask(available_references(batch), rng),
        "speech": batch["speech"],
        "is_first": batch["is_first"].bool(),
    }
    if "latent_mask" in batch:
        conditions["latent_mask"] = batch["latent_mask"].bool()
    return conditions


def available_references(batch: Mapping[str, Tensor]) -> Tensor:
    """Bool [B, M], which references a batch has."""
    if "reference_mask" in batch:
        return batch["reference_mask"].bool()
    references = batch["reference_latents"]
    return torch.ones(references.shape[:2], dtype=torch.bool, device=references.device)


def random_reference_mask(mask_BM: Tensor, rng: torch.Generator) -> Tensor:
    """Keeps a random number, 1 … all, of each row's references.

    Args:
        mask_BM: bool, the references that are available.
        rng: on the CPU.

    Returns:
        Bool [B, M], a subset of `mask_BM`, not empty where `mask_BM` is not.
    """
    available_B = mask_BM.sum(dim=1)
    kept_B = 1 + (torch.rand(mask_BM.shape[0], generator=rng).to(mask_BM.device) * available_B).long()
    scores = torch.rand(mask_BM.shape, generator=rng).to(mask_BM.device).masked_fill(~mask_BM, 2.0)
    rank_BM = scores.argsort(dim=1).argsort(dim=1)
    return mask_BM & (rank_BM < kept_B[:, None])


def loss_mask(batch: Mapping[str, Tensor], *, context: int) -> Tensor:
    """Float [B, L], 1 for the latents that count in a loss.

    Args:
        batch: the batch; padding (`latent_mask`) does not count.
        context: how many latents at the start of a window in mid-clip do not count either.
    """
    rows, latents = batch["latents"].shape[0], batch["latents"].shape[2]
    mask_BL = torch.ones(rows, latents, device=batch["latents"].device)
    if "latent_mask" in batch:
        mask_BL = mask_BL * batch["latent_mask"]
    mask_BL[:, :context] *= batch["is_first"].bool()[:, None]
    return mask_BL


def squared_error(predicted_BCLHW: Tensor, target_BCLHW: Tensor) -> Tensor:
    """Mean squared error of each latent, float32 [B, L]."""
    return (predicted_BCLHW.float() - target_BCLHW).square().mean(dim=(1, 3, 4))


def masked_mean(error_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean over the latents that count; 0 where none does."""
    return (error_BL * mask_BL).sum() / mask_BL.sum().clamp(min=1)

"""Batches become conditions and loss masks: nothing that is absent is used, nothing that is padding counts."""

from __future__ import annotations

import pytest
import torch

from portrait.generator.teacher_forcing import draw_conditions, loss_mask, masked_mean, random_reference_mask


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_only_references_that_are_there_are_kept():
    mask = torch.tensor([[True, False, True]] * 500 + [[False] * 3] * 10)
    kept = random_reference_mask(mask, rng())
    assert not (kept & ~mask).any()
    assert (kept[:500].sum(dim=1) >= 1).all()
    assert kept[:500, 0].float().mean() == pytest.approx(0.75, abs=0.06)


def test_the_loss_mask_leaves_out_padding_and_the_context_in_mid_clip():
    batch = {
        "latents": torch.zeros(2, 64, 8, 2, 2),
        "is_first": torch.tensor([True, False]),
        "latent_mask": torch.arange(8)[None].expand(2, -1) < 6,
    }
    assert loss_mask(batch, context=4).tolist() == [[1.0] * 6 + [0.0] * 2, [0.0] * 4 + [1.0] * 2 + [0.0] * 2]
    assert loss_mask(batch, context=0).sum() == 12


def test_a_masked_mean_counts_what_the_mask_says():
    error = torch.arange(4.0)[None]
    assert masked_mean(error, torch.tensor([[1.0, 0.0, 0.0, 1.0]])) == 1.5
    assert masked_mean(error, torch.zeros(1, 4)) == 0


def test_conditions_are_the_models_arguments():
    batch = {
        "speech": torch.randn(2, 16, 160),
        "reference_latents": torch.randn(2, 3, 64, 2, 2),
        "is_first": torch.tensor([1, 0]),
    }
    conditions = draw_conditions(batch, rng())
    assert set(conditions) == {"references", "reference_mask", "speech", "is_first"}
    assert conditions["reference_mask"].any(dim=1).all()
    assert "latent_mask" in draw_conditions(batch | {"latent_mask": torch.ones(2, 4)}, rng())

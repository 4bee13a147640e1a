"""Latents are normalised per channel, and back, whatever the model's type."""

from __future__ import annotations

import torch

from portrait.generator.normaliser import LatentNormaliser


def normaliser() -> LatentNormaliser:
    return LatentNormaliser(64, torch.randn(64), torch.rand(64) + 0.5)


def test_normalisation_is_undone():
    normalise, latents = normaliser(), torch.randn(2, 64, 4, 2, 2)
    normalised = normalise(latents)
    torch.testing.assert_close(normalise.inverse(normalised), latents)
    torch.testing.assert_close(normalised[1, 5], (latents[1, 5] - normalise.mean[5]) / normalise.std[5])


def test_references_have_their_channels_elsewhere():
    normalise, references = normaliser(), torch.randn(2, 3, 64, 2, 2)
    expected = normalise(references.transpose(1, 2)).transpose(1, 2)
    assert torch.equal(normalise(references, channel_dim=-3), expected)


def test_a_new_one_changes_nothing():
    latents = torch.randn(2, 64, 4, 2, 2)
    assert torch.equal(LatentNormaliser(64)(latents), latents)


def test_statistics_stay_exact_in_a_model_of_bfloat16():
    normalise = normaliser()
    mean, model = normalise.mean.clone(), torch.nn.Sequential(torch.nn.Linear(2, 2), normalise).bfloat16()
    assert next(model.parameters()).dtype == torch.bfloat16
    assert torch.equal(normalise.mean, mean)
    assert normalise(torch.randn(1, 64, 4, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert normalise.to("meta").std.device.type == "meta"

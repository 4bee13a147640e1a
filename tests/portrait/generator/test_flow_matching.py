"""The loss: zero for the true velocity, blind to padding and context, of latents as the VAE gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portrait import presets
from portrait.generator import Generator, flow_matching_loss
from portrait.presets import GeneratorTrainingConfig

TRAINING = GeneratorTrainingConfig(steps=1, batch_size=1, learning_rate=1e-3)


class KnowsTheAnswer(Generator):
    """Gives (z^t − z⁰) / t, the velocity of a straight path, from the clean latents that it is given."""

    def __init__(self, clean: torch.Tensor, error: torch.Tensor | float = 0.0) -> None:
        super().__init__(replace(presets.load("tiny").generator, num_layers=1))
        self.clean, self.error, self.calls = clean, error, []

    def forward(self, history, noised, *, timestep, **conditions):
        self.calls.append({"history": history, "noised": noised, "timestep": timestep, **conditions})
        t = timestep.repeat_interleave(4, dim=1)[:, None, :, None, None]
        return (noised - self.clean) / t + self.error


def batch(rows=6, latents=32, **changes):
    return {
        "latents": torch.randn(rows, 64, latents, 2, 2),
        "speech": torch.randn(rows, 4 * latents, 160),
        "reference_latents": torch.randn(rows, 3, 64, 2, 2),
        "is_first": torch.arange(rows) % 2 == 0,
        **changes,
    }


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_true_velocity_has_no_loss():
    data = batch()
    loss, _ = flow_matching_loss(KnowsTheAnswer(data["latents"]), data, config=TRAINING, rng=rng())
    assert float(loss) < 1e-6


def test_a_constant_error_is_the_loss():
    data = batch()
    loss, metrics = flow_matching_loss(KnowsTheAnswer(data["latents"], 0.5), data, config=TRAINING, rng=rng())
    assert float(loss) == pytest.approx(0.25, abs=1e-4)
    for name in ("flow_loss", "flow_loss_low", "flow_loss_high"):
        assert float(metrics[name]) == pytest.approx(0.25, abs=1e-4)


def test_padding_and_the_context_of_later_windows_do_not_count():
    data = batch(latent_mask=torch.arange(32)[None].expand(6, -1) < 20)
    error = torch.zeros(6, 64, 32, 2, 2)
    error[:, :, 20:] = 3.0
    error[1::2, :, :4] = 3.0
    model = KnowsTheAnswer(data["latents"], error)
    assert float(flow_matching_loss(model, data, config=TRAINING, rng=rng())[0]) < 1e-6
    error[0, :, 0] = 3.0  # the first frame of a clip counts in the loss
    assert float(flow_matching_loss(model, data, config=TRAINING, rng=rng())[0]) > 1e-3


def test_history_is_noised_within_its_bound_and_one_timestep_a_window():
    data = batch(rows=64)
    model = KnowsTheAnswer(data["latents"])
    flow_matching_loss(model, data, config=TRAINING, rng=rng())
    call = model.calls[0]
    timesteps = call["history_timestep"]
    assert (timesteps == timesteps[:, :1]).all()
    assert 0 <= timesteps.min() < 0.1
    assert 0.6 < timesteps.max() <= 0.7
    # What was added is noise of that timestep: z^u − (1 − u)·z⁰ has deviation u.
    timestep = timesteps[:, 0]
    added = call["history"] - (1 - timestep.view(-1, 1, 1, 1, 1)) * data["latents"]
    torch.testing.assert_close(added.flatten(1).std(dim=1), timestep, atol=0.01, rtol=0.02)
    assert call["timestep"].std(dim=1).min() > 0.05  # every block has its own t


def test_conditions_are_dropped_and_references_masked_at_the_configured_rate():
    data = batch(rows=2_000, latents=4)
    model = KnowsTheAnswer(data["latents"])
    flow_matching_loss(model, data, config=TRAINING, rng=rng())
    call = model.calls[0]
    assert float(call["drop_speech"].float().mean()) == pytest.approx(0.1, abs=0.03)
    assert float(call["drop_references"].float().mean()) == pytest.approx(0.1, abs=0.03)
    both = (call["drop_speech"] & call["drop_references"]).float().mean()
    assert float(both) == pytest.approx(0.01, abs=0.01)
    kept = call["reference_mask"].sum(dim=1)
    for count in (1, 2, 3):
        assert float((kept == count).float().mean()) == pytest.approx(1 / 3, abs=0.05)


def test_rows_without_references_get_the_null_reference():
    data = batch(reference_mask=torch.tensor([[False] * 3] + [[True] * 3] * 5))
    model = KnowsTheAnswer(data["latents"])
    config = GeneratorTrainingConfig(steps=1, batch_size=1, learning_rate=1e-3, reference_dropout=0.0)
    flow_matching_loss(model, data, config=config, rng=rng())
    assert model.calls[0]["drop_references"].tolist() == [True] + [False] * 5


def test_the_same_draws_give_the_same_loss(generator):
    data = batch(rows=2, latents=8)
    with torch.no_grad():
        losses = [
            float(flow_matching_loss(generator, data, config=TRAINING, rng=rng(s))[0]) for s in (3, 3, 4)
        ]
    assert losses[0] == losses[1] != losses[2]


def test_every_parameter_learns(generator_config, generator):
    model = Generator(generator_config)
    model.load_state_dict(generator.state_dict())
    config = GeneratorTrainingConfig(
        steps=1, batch_size=1, learning_rate=1e-3, audio_dropout=0.5, reference_dropout=0.5
    )
    loss, _ = flow_matching_loss(model, batch(rows=8, latents=8), config=config, rng=rng())
    loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_few_steps_fit_one_window(generator_config):
    model = Generator(generator_config)
    data = batch(rows=1, latents=4, is_first=torch.tensor([True]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    @torch.no_grad()
    def held_out():
        """The loss at draws of noise and timesteps that training doesn't see."""
        return sum(
            float(flow_matching_loss(model, data, config=TRAINING, rng=rng(1_000 + draw))[0])
            for draw in range(8)
        )

    before = held_out()
    for step in range(60):
        loss, _ = flow_matching_loss(model, data, config=TRAINING, rng=rng(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert held_out() < 0.85 * before


def test_latents_are_those_of_the_vae_and_padding_is_the_mean(generator_config):
    """The same batch in other units, with a model that knows them, has the same loss."""
    mask = torch.arange(8)[None].expand(4, -1) < torch.tensor([8, 6, 5, 3])[:, None]
    data = batch(rows=4, latents=8, latent_mask=mask)
    mean, std = torch.randn(64), torch.rand(64) + 0.5
    plain, other = Generator(generator_config), Generator(generator_config, latent_mean=mean, latent_std=std)
    weights = {name: 0.1 * torch.randn_like(weight) for name, weight in plain.named_parameters()}
    for model in (plain, other):
        model.load_state_dict(weights, strict=False)
    shape = (64, 1, 1, 1)
    moved = data | {
        "latents": data["latents"] * std.view(shape) + mean.view(shape),
        "reference_latents": data["reference_latents"] * std.view(64, 1, 1) + mean.view(64, 1, 1),
    }
    padded = moved | {"latents": moved["latents"].masked_fill(~mask[:, None, :, None, None], 7.0)}
    expected, *found = (
        flow_matching_loss(model, values, config=TRAINING, rng=rng())[0]
        for model, values in ((plain, data), (other, moved), (other, padded))
    )
    assert expected > 0.5
    for loss in found:
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)

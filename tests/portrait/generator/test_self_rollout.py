"""Self-rollout: what the stream would have made, and nothing that it could not have known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from portrait.generator import Generator, SamplingConfig, flow_matching_loss
from portrait.generator.self_rollout import SelfRollout, self_rollout
from portrait.presets import GeneratorTrainingConfig
from portrait.streaming import generator_stage

SAMPLING = SamplingConfig(steps=2)


@pytest.fixture
def batch(generator_config):
    size, latents = generator_config.latent_size, 16
    return {
        "latents": torch.randn(2, 64, latents, size, size),
        "speech": torch.randn(2, 4 * latents, generator_config.speech_dim),
        "reference_latents": torch.randn(2, 2, 64, size, size),
        "is_first": torch.tensor([True, False]),
    }


def like(generator, kind):
    """A model of another class with the generator's weights."""
    model = kind(generator.config)
    model.load_state_dict(generator.state_dict())
    return model


def made(generator, batch, timestep=0.6, seed=0):
    rollout = SelfRollout(sampling=SAMPLING, timestep=timestep)
    return self_rollout(generator, batch, rollout, torch.Generator().manual_seed(seed))


def test_from_noise_alone_it_is_what_a_stream_generates(generator, batch, monkeypatch):
    first = {name: value[:1] for name, value in batch.items()}
    noise = torch.randn(first["latents"].shape, generator=torch.Generator().manual_seed(0))[0]
    monkeypatch.setattr(
        generator_stage, "block_noise", lambda _, __, block: noise[:, 4 * block : 4 * block + 4]
    )
    stage = generator_stage.GeneratorStage(generator, SAMPLING)
    stage.open("one", first["reference_latents"][0])
    features = np.asarray(first["speech"][0, 3:])  # a clip's first group has one frame
    blocks = []
    for start, end in ((0, 13), (13, 29), (29, 45)):  # the window's fourth block is not history of any block
        request = generator_stage.GeneratorRequest(session_id="one", features=features[start:end])
        blocks.append(stage.step([request])[0])
    streamed = generator.normalise(torch.cat(blocks, dim=1))
    rolled = made(generator, first, timestep=1.0)[0]
    torch.testing.assert_close(rolled[:, :12], streamed, atol=1e-4, rtol=1e-4)
    assert torch.equal(rolled[:, 12:], generator.normalise(first["latents"][0])[:, 12:])


def test_a_little_noise_leaves_the_true_video(generator, batch):
    true = generator.normalise(batch["latents"])
    torch.testing.assert_close(made(generator, batch, timestep=1e-4), true, atol=5e-3, rtol=0)
    assert (made(generator, batch) - true).abs().max() > 0.1


def test_a_block_knows_its_own_and_earlier_ones(generator, batch):
    before = made(generator, batch)
    for name, index in (
        ("latents", (slice(None), slice(None), slice(4, 8))),
        ("speech", (slice(None), slice(16, 32))),
    ):
        changed = dict(batch) | {name: batch[name].clone()}
        changed[name][index] += 1
        after = made(generator, changed)
        torch.testing.assert_close(after[:, :, :4], before[:, :, :4], atol=1e-5, rtol=0)
        for later in (slice(4, 8), slice(8, 12)):
            assert (after[:, :, later] - before[:, :, later]).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-4


def test_masked_references_are_not_seen(generator, batch):
    mask = torch.tensor([[True, False], [True, True]])
    masked = made(generator, batch | {"reference_mask": mask})
    other = batch["reference_latents"].clone()
    other[0, 1] += 1
    again = made(generator, batch | {"reference_mask": mask, "reference_latents": other})
    torch.testing.assert_close(again, masked)
    assert (masked[0] - made(generator, batch)[0]).abs().max() > 1e-3


def test_the_loss_is_of_the_true_video_with_the_models_own_history_at_timestep_0(generator, batch):
    calls = []

    class Recorded(Generator):
        def forward(self, history, noised, **conditions):
            calls.append({"history": history, **conditions})
            return super().forward(history, noised, **conditions)

    config = GeneratorTrainingConfig(steps=1, batch_size=1, learning_rate=1e-3)
    rollout = SelfRollout(sampling=SAMPLING, timestep=0.5)
    model = like(generator, Recorded)
    loss, _ = flow_matching_loss(
        model, batch, config=config, rng=torch.Generator().manual_seed(0), rollout=rollout
    )
    loss.backward()
    history = calls[0]["history"]
    assert not history.requires_grad
    assert (calls[0]["history_timestep"] == 0).all()
    apart = (history - generator.normalise(batch["latents"])).square().mean().sqrt()
    assert 0.05 < apart < 3


@pytest.mark.parametrize("learn_context", [False, True])
def test_the_target_is_the_true_video_and_context_counts_where_asked(generator, batch, learn_context):
    """A model that knows the true video makes no error, but for a constant one in the context of mid-clip windows."""
    clean = generator.normalise(batch["latents"])

    class KnowsTheTruth(Generator):
        def forward(self, history, noised, *, timestep, **conditions):
            t = timestep.repeat_interleave(4, dim=1)[:, None, :, None, None]
            velocity = (noised - clean) / t
            velocity[1, :, :4] += 2.0
            return velocity

    loss, _ = flow_matching_loss(
        like(generator, KnowsTheTruth),
        batch,
        config=GeneratorTrainingConfig(steps=1, batch_size=1, learning_rate=1e-3),
        rng=torch.Generator().manual_seed(0),
        rollout=SelfRollout(sampling=SAMPLING, timestep=0.5),
        learn_context=learn_context,
    )
    assert float(loss) == pytest.approx(2.0**2 * 4 / 32 if learn_context else 0.0, abs=1e-4)


def test_numbers_out_of_range_are_refused():
    config = GeneratorTrainingConfig(steps=1, batch_size=1, learning_rate=1e-3)
    for change in ({"rollout_share": 1.5}, {"rollout_timestep_max": 0.0}, {"rollout_steps": 0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            replace(config, **change)

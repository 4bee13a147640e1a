"""The sampler: Euler's order on a known field, guidance identities, noise, and the cache it leaves behind."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from portrait.generator import SamplingConfig
from portrait.generator.guidance import Guidance
from portrait.generator.sampler import BlockSampler, block_noise, euler
from portrait.generator.timesteps import sampling_timesteps


def gaussian_velocity(z, t, spread=0.5):
    """E[ε − z⁰ | z^t] where z⁰ ~ N(0, spread²): the velocity that carries N(0, 1) to it."""
    variance = (1 - t) ** 2 * spread**2 + t**2
    return z * (t - (1 - t) * spread**2) / variance


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_error_falls_with_the_first_power_of_the_step(shift):
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    exact = 0.5 * start  # the flow scales N(0, 1) to N(0, 0.25)
    errors = []
    for steps in (40, 80, 160, 320):
        end = euler(gaussian_velocity, start, sampling_timesteps(steps, shift))
        errors.append(float((end - exact).abs().max()))
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert orders[-1] == pytest.approx(1.0, abs=0.1), errors


def test_a_straight_path_takes_one_step():
    clean, noise = torch.randn(8), torch.randn(8)
    for steps in (1, 12):
        end = euler(lambda z, t: noise - clean, noise, sampling_timesteps(steps, 5.0))
        torch.testing.assert_close(end, clean, atol=1e-5, rtol=1e-5)


def test_noise_is_a_function_of_seed_and_block(generator_config):
    noise = block_noise(generator_config, 3, 17)
    assert noise.shape == (64, 4, 2, 2)
    assert torch.equal(noise, block_noise(generator_config, 3, 17))
    others = [block_noise(generator_config, *key) for key in ((3, 18), (4, 17), (31, 7), (-3, 17))]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack((noise.flatten(), other.flatten())))[0, 1])) < 0.2
    assert float(noise.std()) == pytest.approx(1.0, abs=0.1)


def guided(audio, reference, conditional, unspoken, unconditional):
    return unconditional + reference * (unspoken - unconditional) + audio * (conditional - unspoken)


@pytest.mark.parametrize(("audio", "reference"), [(2.0, 2.0), (1.0, 1.0), (3.0, 1.0), (1.0, 3.0), (0.0, 1.0)])
def test_guidance_is_the_papers_formula(audio, reference):
    guidance = Guidance.of(SamplingConfig(audio_guidance=audio, reference_guidance=reference))
    velocities = {
        (False, False): torch.randn(2, 5),
        (True, False): torch.randn(2, 5),
        (True, True): torch.randn(2, 5),
    }
    passes = [velocities[key] for key in zip(guidance.drop_speech, guidance.drop_references, strict=True)]
    combined = guidance.combine(torch.stack(passes, dim=1).flatten(0, 1))
    torch.testing.assert_close(combined, guided(audio, reference, *velocities.values()))
    assert guidance.passes == (3 if audio != reference else 2 if audio != 1 else 1)


def sampled(generator, sampling, references, speech, *, guidance=None, blocks=1):
    sampler = BlockSampler(generator, sampling, guidance)
    cache = sampler.allocate(len(speech), references.shape[1])
    sampler.prefill_references(cache, references)
    cache.begin_window(first=True)
    latents = []
    for block in range(blocks):
        noise = torch.stack([block_noise(generator.config, row, block) for row in range(len(speech))])
        latents.append(sampler.sample(cache, noise, speech))
        if block + 1 < blocks:
            sampler.append(cache, latents[-1], speech)
    return torch.cat(latents, dim=2)


@pytest.fixture
def conditions(generator):
    with torch.no_grad():
        speech = generator.embed_speech(torch.randn(2, 13, 160), True)
    return torch.randn(2, 3, 64, 2, 2), speech


def test_two_passes_are_three_at_equal_scales(generator, conditions):
    sampling = SamplingConfig(steps=2, audio_guidance=2.0, reference_guidance=2.0)
    two = sampled(generator, sampling, *conditions, blocks=2)
    three = sampled(generator, sampling, *conditions, guidance=Guidance.three_passes(2.0, 2.0), blocks=2)
    torch.testing.assert_close(two, three, atol=1e-4, rtol=1e-4)


def test_scale_one_is_the_conditional_pass(generator, conditions):
    sampling = SamplingConfig(steps=2, audio_guidance=1.0, reference_guidance=1.0)
    one = sampled(generator, sampling, *conditions)
    three = sampled(generator, sampling, *conditions, guidance=Guidance.three_passes(1.0, 1.0))
    torch.testing.assert_close(one, three, atol=1e-4, rtol=1e-4)
    stronger = sampled(generator, SamplingConfig(steps=2), *conditions)
    assert (one - stronger).abs().max() > 1e-2


def test_a_scale_of_nothing_ignores_its_condition(generator, conditions):
    references, speech = conditions
    sampling = SamplingConfig(steps=3, audio_guidance=0.0, reference_guidance=2.0)
    silent = sampled(generator, sampling, references, speech)
    other = sampled(generator, sampling, references, torch.randn_like(speech))
    torch.testing.assert_close(silent, other, atol=1e-4, rtol=1e-4)
    elsewhere = sampled(generator, sampling, torch.randn_like(references), speech)
    assert (silent - elsewhere).abs().max() > 1e-2


def test_sampling_leaves_the_history_as_it_was(generator, conditions):
    references, speech = conditions
    sampler = BlockSampler(generator, SamplingConfig(steps=2))
    cache = sampler.allocate(2, 3)
    sampler.prefill_references(cache, references)
    cache.begin_window(first=True)
    sampler.append(cache, torch.randn(2, 64, 4, 2, 2), speech)
    before = cache.keys_values[..., : cache.current, :].clone()
    sampler.sample(cache, torch.randn(2, 64, 4, 2, 2), speech)
    assert torch.equal(cache.keys_values[..., : cache.current, :], before)
    assert cache.lengths.tolist() == [1] * 4

"""The generator's one-pass training graph: size, and what may depend on what."""

from __future__ import annotations

import pytest
import torch

from portrait import presets
from portrait.generator import Generator
from portrait.timing import LATENTS_PER_BLOCK


def run(generator, window, **changes):
    return generator(**{**window, **changes})


def parameters_by_arithmetic(config):
    d, c, e, f = config.width, config.latent_channels, config.speech_embedding_dim, config.speech_dim
    m = int(config.mlp_ratio * d)
    layer = (6 * d * d + 6 * d) + (3 * d * d + 3 * d) + (d * d + d) + 2 * config.head_dim
    layer += (d * m + m) + (m * d + d)
    embedder = (f * 4 * e + 4 * e) + (4 * f * 4 * e + 4 * e) + 2 * (4 * e * e + e)
    timestep = (256 * d + d) + (d * d + d)
    inputs = ((c + e) * d + d) + (c * d + d) + 2 * d + d + e
    output = (2 * d * d + 2 * d) + (d * c + c)
    return config.num_layers * layer + embedder + timestep + inputs + output


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_parameters_are_those_of_the_arithmetic(name):
    config = presets.load(name).generator
    with torch.device("meta"):
        model = Generator(config)
    assert sum(p.numel() for p in model.parameters()) == parameters_by_arithmetic(config)


def test_the_papers_generator_has_a_billion_parameters():
    config = presets.load("paper").generator
    assert (config.num_layers, config.heads, config.head_dim) == (24, 12, 128)
    assert parameters_by_arithmetic(config) == pytest.approx(1.0e9, rel=0.05)


def test_velocity_is_zero_before_training(generator_config, window):
    assert (run(Generator(generator_config), window) == 0).all()


def test_no_block_depends_on_what_comes_later(generator, window, generator_config):
    leaves = {name: window[name].requires_grad_() for name in ("history", "noised", "speech", "timestep")}
    k, block = LATENTS_PER_BLOCK, 3
    velocity = run(generator, window)
    velocity[:, :, block * k : (block + 1) * k].square().sum().backward()
    by_latent = {
        "history": leaves["history"].grad.abs().sum(dim=(1, 3, 4)),
        "noised": leaves["noised"].grad.abs().sum(dim=(1, 3, 4)),
        "speech": leaves["speech"].grad.abs().sum(dim=2).unflatten(1, (-1, 4)).sum(dim=2),
        "timestep": leaves["timestep"].grad.abs().repeat_interleave(k, dim=1),
    }
    index = torch.arange(generator_config.window_latents) // k
    earlier, itself = index < block, index == block
    depends = {
        "history": earlier,
        "noised": itself,
        "speech": earlier | itself,
        "timestep": itself,
    }
    for name, grad in by_latent.items():
        assert (grad[:, ~depends[name]] == 0).all(), name
        assert (grad[:, depends[name]] > 0).all(), name


def test_the_first_block_sees_no_history(generator, window, generator_config):
    changed = window["history"] + 1.0
    k = LATENTS_PER_BLOCK
    before, after = run(generator, window), run(generator, window, history=changed)
    torch.testing.assert_close(after[:, :, :k], before[:, :, :k])
    assert (after[:, :, k:] - before[:, :, k:]).abs().max() > 1e-2


def test_the_order_of_references_does_not_matter(generator, window):
    shuffled = window["references"][:, [2, 0, 1]]
    torch.testing.assert_close(
        run(generator, window, references=shuffled), run(generator, window), atol=1e-4, rtol=1e-4
    )


def test_a_masked_reference_is_an_absent_one(generator, window):
    mask = torch.tensor([[True, False, True]] * 2)
    masked = run(generator, window, reference_mask=mask)
    absent = run(generator, window, references=window["references"][:, [0, 2]])
    torch.testing.assert_close(masked, absent, atol=1e-4, rtol=1e-4)
    assert (masked - run(generator, window)).abs().max() > 1e-2


def test_dropped_references_do_not_matter_whatever_they_are(generator, window):
    drop = torch.tensor([True, False])
    dropped = run(generator, window, drop_references=drop)
    others = torch.randn_like(window["references"])
    again = run(generator, window, drop_references=drop, references=others)
    torch.testing.assert_close(again[0], dropped[0], atol=1e-4, rtol=1e-4)
    assert (again[1] - dropped[1]).abs().max() > 1e-2
    assert (dropped[0] - run(generator, window)[0]).abs().max() > 1e-2


def test_dropped_speech_does_not_matter_whatever_it_is(generator, window):
    drop = torch.tensor([True, False])
    dropped = run(generator, window, drop_speech=drop)
    again = run(generator, window, drop_speech=drop, speech=torch.randn_like(window["speech"]))
    torch.testing.assert_close(again[0], dropped[0])
    assert (again[1] - dropped[1]).abs().max() > 1e-2


def test_padding_does_not_matter(generator, window, generator_config):
    mask = torch.arange(generator_config.window_latents)[None].expand(2, -1) < 22
    other = {name: window[name].clone() for name in ("history", "noised")}
    for latents in other.values():
        latents[:, :, 22:] = 100.0
    before = run(generator, window, latent_mask=mask)
    after = run(generator, window, latent_mask=mask, **other)
    torch.testing.assert_close(after[:, :, :22], before[:, :, :22], atol=1e-4, rtol=1e-4)


def test_the_window_token_tells_first_windows_from_later_ones(generator, window):
    speech = window["speech"]
    # The embedder knows as well; with the speech dropped, only the token shows it.
    drop = torch.tensor([True, True])
    first = run(generator, window, speech=speech, drop_speech=drop, is_first=torch.tensor([True, True]))
    later = run(generator, window, speech=speech, drop_speech=drop, is_first=torch.tensor([False, False]))
    assert (first - later).abs().max() > 1e-2


def test_the_timestep_of_history_is_seen(generator, window):
    noisy = run(generator, window, history_timestep=torch.full_like(window["history_timestep"], 0.5))
    assert (noisy - run(generator, window)).abs().max() > 1e-2


def test_checkpointing_changes_no_gradient(generator_config, generator, window):
    gradients = []
    for checkpointing in (False, True):
        model = Generator(generator_config)
        model.load_state_dict(generator.state_dict())
        model.activation_checkpointing = checkpointing
        run(model, window).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_latents_of_another_size_are_refused(generator, window):
    with pytest.raises(ValueError, match="multiple of 4"):
        run(generator, window, noised=window["noised"][:, :, :30])

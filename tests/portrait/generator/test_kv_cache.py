"""The KV cache gives what the full block-causal pass gives, for rows of any length, at a constant size."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from portrait.generator import KVCache
from portrait.timing import LATENTS_PER_BLOCK

TOLERANCE: dict[str, Any] = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture
def embedding(generator, window):
    with torch.no_grad():
        return generator.embed_speech(window["speech"], window["is_first"])


def begin(generator, window, row, references=3):
    cache = KVCache.allocate(generator.config, 1, references)
    generator.prefill_references(cache, window["references"][row : row + 1])
    cache.begin_window(first=bool(window["is_first"][row]))
    return cache


def blocks_of(latents, config):
    return latents.split(LATENTS_PER_BLOCK, dim=2)


@torch.no_grad()
@pytest.mark.parametrize(("row", "room"), [(0, 3), (1, 5)])
def test_equals_the_full_pass(generator, window, embedding, row, room):
    generator_config = generator.config
    rows = slice(row, row + 1)
    full = blocks_of(generator(**window)[rows], generator_config)
    noised, history = (blocks_of(window[n][rows], generator_config) for n in ("noised", "history"))
    cache = begin(generator, window, row, room)
    for index, expected in enumerate(full):
        speech = embedding[rows, 4 * index : 4 * index + 4]
        velocity = generator.denoise(cache, noised[index], window["timestep"][rows, index], speech)
        torch.testing.assert_close(velocity, expected, **TOLERANCE)
        if index < generator_config.window_blocks - 1:
            generator.append(cache, history[index], speech)


@torch.no_grad()
def test_one_pass_over_the_window_rebuilds_the_cache(generator, window, embedding):
    step_by_step, at_once = begin(generator, window, 1), begin(generator, window, 1)
    history = window["history"][1:]
    for index in range(5):
        tokens = slice(4 * index, 4 * index + 4)
        generator.append(step_by_step, history[:, :, tokens], embedding[1:, tokens])
    generator.prefill(at_once, history[:, :, :20], embedding[1:, :20])
    seen = step_by_step.present()[0]
    seen[step_by_step.current :] = False
    assert torch.equal(step_by_step.present(), at_once.present())
    torch.testing.assert_close(
        at_once.keys_values[..., seen, :], step_by_step.keys_values[..., seen, :], **TOLERANCE
    )


@torch.no_grad()
def test_rows_of_different_lengths_and_references_in_one_batch(generator, window, embedding):
    caches = [begin(generator, window, 0), begin(generator, window, 1)]
    generator.prefill_references(caches[1], window["references"][1:, :1])
    generator.prefill(caches[0], window["history"][:1, :, :24], embedding[:1, :24])
    generator.prefill(caches[1], window["history"][1:, :, :4], embedding[1:, :4])
    noised, timestep = window["noised"][:, :, :4], torch.tensor([0.9, 0.4])
    speech = torch.stack((embedding[0, 24:28], embedding[1, 4:8]))
    alone = [
        generator.denoise(c, noised[i : i + 1], timestep[i : i + 1], speech[i : i + 1])
        for i, c in enumerate(caches)
    ]
    batch = KVCache.concatenate(caches)
    torch.testing.assert_close(
        generator.denoise(batch, noised, timestep, speech), torch.cat(alone), **TOLERANCE
    )

    generator.append(batch, noised, speech)
    batch.copy_to(caches)
    for index, cache in enumerate(caches):
        again = begin(generator, window, index)
        if index == 1:
            generator.prefill_references(again, window["references"][1:, :1])
        length = (24, 4)[index]
        latents = torch.cat(
            (window["history"][index : index + 1, :, :length], noised[index : index + 1]), dim=2
        )
        spoken = torch.cat((embedding[index : index + 1, :length], speech[index : index + 1]), dim=1)
        generator.prefill(again, latents, spoken)
        seen = again.present()[0]
        seen[again.current :] = False
        assert torch.equal(cache.lengths, again.lengths)
        torch.testing.assert_close(
            cache.keys_values[..., seen, :], again.keys_values[..., seen, :], **TOLERANCE
        )


@torch.no_grad()
def test_references_are_prefilled_once_for_all_windows(generator, window, embedding):
    cache = begin(generator, window, 0)
    before = cache.keys_values[..., : cache.prefix, :].clone()
    generator.prefill(cache, window["history"][:1, :, :8], embedding[:1, :8])
    cache.begin_window(first=False)
    generator.prefill(cache, window["history"][:1, :, 4:8], embedding[:1, 4:8])
    torch.testing.assert_close(cache.keys_values[..., : cache.prefix, :], before)


@torch.no_grad()
def test_forgotten_blocks_leave_no_trace(generator, window, embedding):
    used, fresh = begin(generator, window, 1), begin(generator, window, 1)
    generator.prefill(used, 9 * window["history"][1:, :, :28], embedding[1:, :28])
    used.begin_window(first=False)
    arguments = (window["noised"][1:, :, :4], torch.tensor([0.5]), embedding[1:, :4])
    torch.testing.assert_close(generator.denoise(used, *arguments), generator.denoise(fresh, *arguments))


@torch.no_grad()
def test_shape_does_not_depend_on_the_length(generator, window, embedding):
    cache = begin(generator, window, 0)
    shape, address = cache.keys_values.shape, cache.keys_values.data_ptr()
    for index in range(7):
        generator.append(cache, window["history"][:1, :, :4], embedding[:1, :4])
        assert cache.lengths.tolist() == [index + 1]
    assert (cache.keys_values.shape, cache.keys_values.data_ptr()) == (shape, address)


@torch.no_grad()
def test_a_window_longer_than_the_cache_is_refused(generator, window, embedding):
    cache = begin(generator, window, 0)
    with pytest.raises(ValueError, match="holds 7 finished blocks"):
        generator.prefill(cache, window["history"][:1], embedding[:1])
    generator.prefill(cache, window["history"][:1, :, :28], embedding[:1, :28])
    with pytest.raises(ValueError, match="begin the next window first"):
        generator.append(cache, window["history"][:1, :, :4], embedding[:1, :4])


def test_more_references_than_there_is_room_for_are_refused(generator, window):
    cache = KVCache.allocate(generator.config, 1, 2)
    with pytest.raises(ValueError, match="room for 2 references, got 3"):
        generator.prefill_references(cache, window["references"][:1])

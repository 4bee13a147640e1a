"""Latents block by block: windows, batches of sessions, moves, and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from portrait.generator import Generator
from portrait.generator.guidance import Guidance
from portrait.generator.sampler import block_noise, euler
from portrait.streaming import GeneratorRequest, GeneratorStage, StageFullError, UnknownSessionError

TOLERANCE: dict[str, Any] = {"atol": 1e-4, "rtol": 1e-4}


def features_of(block: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng((seed, block))
    return rng.standard_normal((13 if block == 0 else 16, 160)).astype(np.float32)


def request(name: str, block: int, seed: int = 0) -> GeneratorRequest:
    return GeneratorRequest(session_id=name, features=features_of(block, seed))


@pytest.fixture
def stage(generator, sampling):
    return GeneratorStage(generator, sampling, max_sessions=3)


def alone(stage, portrait, blocks, seed=0):
    stage.open("alone", portrait.reference_latents, seed=seed)
    latents = [stage.step([request("alone", block, seed)])[0] for block in range(blocks)]
    stage.close("alone")
    return latents


@torch.no_grad()
def test_a_stream_is_what_teacher_forcing_over_its_own_latents_says(generator, sampling, stage, portraits):
    """Every block again, by the full pass of training over windows that are put together here."""
    stream = alone(stage, portraits[1], 6)
    latents = generator.normalise(torch.cat(stream, dim=1))
    references = portraits[1].reference_latents[None].expand(2, -1, -1, -1, -1)
    guidance = Guidance.of(sampling)
    speech = np.concatenate([features_of(block) for block in range(6)])
    for first_block, blocks in ((0, (0, 1, 3)), (3, (4, 5))):  # the second window's context is block 3
        frames = np.zeros((64, 160), np.float32)
        start = 16 * first_block - 3
        heard = speech[max(0, start) : start + 64]
        frames[max(0, -start) : max(0, -start) + len(heard)] = heard
        window = torch.zeros(2, 64, 16, 2, 2)
        there = latents[:, 4 * first_block : 4 * first_block + 16]
        window[:, :, : there.shape[1]] = there

        def velocity(z, t, block, *, window=window, frames=frames, first_block=first_block):
            tokens = slice(4 * (block - first_block), 4 * (block - first_block) + 4)
            noised = torch.zeros_like(window)
            noised[:, :, tokens] = z
            predicted = generator(
                window,
                noised,
                history_timestep=torch.zeros(2, 4),
                timestep=torch.full((2, 4), t),
                references=references,
                speech=torch.from_numpy(frames)[None].expand(2, -1, -1),
                is_first=torch.tensor([first_block == 0] * 2),
                drop_speech=torch.tensor(guidance.drop_speech),
                drop_references=torch.tensor(guidance.drop_references),
            )
            return guidance.combine(predicted[:, :, tokens])

        for block in blocks:
            noise = block_noise(generator.config, 0, block)[None]
            timesteps = stage.sampler.timesteps
            expected = euler(lambda z, t, block=block: velocity(z, t, block), noise, timesteps)[0]
            actual = latents[:, 4 * block : 4 * block + 4]
            torch.testing.assert_close(actual, expected, atol=2e-4, rtol=1e-4)


def test_sessions_together_are_what_they_are_alone(stage, portraits):
    """Three people, begun one step after the other, so that lengths, windows and reference counts differ."""
    expected = [alone(stage, portrait, 7, seed) for seed, portrait in enumerate(portraits)]
    names, latents = ("a", "b", "c"), ([], [], [])
    for step in range(9):
        due = [i for i in range(3) if 0 <= step - i < 7]
        for i in due:
            if step == i:
                stage.open(names[i], portraits[i].reference_latents, seed=i)
        results = stage.step([request(names[i], step - i, i) for i in due])
        for i, result in zip(due, results, strict=True):
            latents[i].append(result)
    for mine, theirs in zip(latents, expected, strict=True):
        torch.testing.assert_close(torch.stack(mine), torch.stack(theirs), **TOLERANCE)
    assert (expected[0][0] - expected[1][0]).abs().max() > 1e-2


def test_export_and_import_after_any_block_change_nothing(generator, sampling, stage, portraits):
    expected = alone(stage, portraits[1], 9, seed=5)
    stage.open("a", portraits[1].reference_latents, seed=5)
    for block in range(9):
        latents = stage.step([request("a", block, 5)])[0]
        torch.testing.assert_close(latents, expected[block], **TOLERANCE)
        state = stage.export("a")
        stage = GeneratorStage(generator, sampling)
        stage.open("a", portraits[1].reference_latents, state=state)


def test_state_and_memory_do_not_grow(stage, portraits):
    stage.open("a", portraits[0].reference_latents)
    sizes, memory = [], set()
    for block in range(14):
        stage.step([request("a", block)])
        sizes.append(len(stage.export("a")))
        cache = stage.sessions["a"].cache.keys_values
        memory.add((cache.data_ptr(), cache.numel()))
    assert max(sizes[4:]) <= max(sizes[:4]) < 300_000
    assert len(memory) == 1


def test_seed_portrait_and_speech_each_matter(stage, portraits):
    base = alone(stage, portraits[0], 2)
    assert (alone(stage, portraits[0], 2, seed=1)[0] - base[0]).abs().max() > 1e-2
    assert (alone(stage, portraits[2], 2)[0] - base[0]).abs().max() > 1e-2
    assert torch.equal(torch.stack(alone(stage, portraits[0], 2)), torch.stack(base))


def test_later_speech_changes_no_earlier_block(stage, portraits):
    base = alone(stage, portraits[0], 2)
    stage.open("a", portraits[0].reference_latents)
    first = stage.step([request("a", 0)])[0]
    second = stage.step([request("a", 1, seed=9)])[0]
    assert torch.equal(first, base[0])
    assert (second - base[1]).abs().max() > 1e-3


def test_wrong_use_is_told_and_changes_nothing(generator, sampling, portraits):
    stage = GeneratorStage(generator, sampling, max_sessions=1, max_references=2)
    with pytest.raises(ValueError, match="1 to 2 references, got 3"):
        stage.open("a", portraits[1].reference_latents)
    stage.open("a", portraits[0].reference_latents)
    with pytest.raises(StageFullError):
        stage.open("b", portraits[0].reference_latents)
    with pytest.raises(ValueError, match="open already"):
        stage.open("a", portraits[0].reference_latents)
    with pytest.raises(UnknownSessionError):
        stage.step([request("b", 0)])
    with pytest.raises(ValueError, match=r"block 0 must be \[13, 160\], got \[16, 160\]"):
        stage.step([request("a", 1)])
    with pytest.raises(ValueError, match="only once"):
        stage.step([request("a", 0), request("a", 0)])
    with pytest.raises(ValueError, match="NaN"):
        stage.step([GeneratorRequest(session_id="a", features=np.full((13, 160), np.nan, np.float32))])
    assert stage.sessions["a"].block == 0
    assert stage.step([]) == []
    stage.close("a")
    with pytest.raises(ValueError, match="session state"):
        stage.open("a", portraits[0].reference_latents, state=b"no state")
    assert not stage.sessions


# ---- a rolling window ------------------------------------------------------------------------------------------------


@pytest.fixture
def rolling(generator, sampling):
    return GeneratorStage(generator, replace(sampling, window="rolling"))


def moved(stage, portrait, blocks, seed=5):
    """The stream of a session that moves to a new stage after every block."""
    latents = []
    stage.open("a", portrait.reference_latents, seed=seed)
    for block in range(blocks):
        latents.append(stage.step([request("a", block, seed)])[0])
        state = stage.export("a")
        stage.close("a")
        stage.open("a", portrait.reference_latents, state=state)
    stage.close("a")
    return latents


def test_a_rolling_window_is_the_papers_until_it_is_full_and_goes_on_with_more_memory(
    stage, rolling, portraits
):
    papers, rolled = alone(stage, portraits[1], 7), alone(rolling, portraits[1], 7)
    torch.testing.assert_close(torch.stack(rolled[:4]), torch.stack(papers[:4]), **TOLERANCE)
    assert (rolled[4] - papers[4]).abs().max() > 1e-2


def test_with_one_layer_a_rolled_cache_is_the_one_written_anew(generator, sampling, portraits):
    """There keys and values know nothing but their own token, so turning them back must be all there is to do."""
    shallow = Generator(replace(generator.config, num_layers=1))
    shallow.load_state_dict(generator.state_dict(), strict=False)
    stage = GeneratorStage(shallow.eval(), replace(sampling, window="rolling"))
    rolled, written = alone(stage, portraits[1], 9, seed=5), moved(stage, portraits[1], 9)
    torch.testing.assert_close(torch.stack(written), torch.stack(rolled), **TOLERANCE)


def test_deeper_keys_remember_what_was_dropped_and_a_moved_session_does_not(rolling, portraits):
    rolled, written = alone(rolling, portraits[1], 9, seed=5), moved(rolling, portraits[1], 9)
    torch.testing.assert_close(torch.stack(written[:4]), torch.stack(rolled[:4]), **TOLERANCE)
    assert (written[6] - rolled[6]).abs().max() > 1e-4


def test_rolling_sessions_together_are_what_they_are_alone_and_do_not_grow(rolling, portraits):
    expected = [alone(rolling, portraits[row], 8, seed=row) for row in range(2)]
    latents, sizes = ([], []), []
    for step in range(10):  # the second begins two blocks later
        due = [row for row in range(2) if 0 <= step - 2 * row < 8]
        for row in due:
            if step == 2 * row:
                rolling.open(f"{row}", portraits[row].reference_latents, seed=row)
        results = rolling.step([request(f"{row}", step - 2 * row, row) for row in due])
        for row, result in zip(due, results, strict=True):
            latents[row].append(result)
        sizes.append(len(rolling.export("0")))
    for mine, theirs in zip(latents, expected, strict=True):
        torch.testing.assert_close(torch.stack(mine), torch.stack(theirs), **TOLERANCE)
    assert len(set(sizes[3:])) == 1


def test_another_window_is_refused(sampling):
    with pytest.raises(ValueError, match="'restart' or 'rolling', got 'sliding'"):
        replace(sampling, window="sliding")

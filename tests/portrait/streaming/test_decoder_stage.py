"""Frames block by block equal the whole decode; sessions batch and move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portrait.media.tensors import tensor_to_frames
from portrait.streaming import (
    DecoderRequest,
    DecoderStage,
    Portrait,
    StageFullError,
    UnknownSessionError,
    prepare_portrait,
)

BLOCKS = 3
"""Longer than the tiny decoder's reach of one block."""


@pytest.fixture(scope="module")
def portraits(vae) -> list[Portrait]:
    """People at 64², a quarter of the preset's arithmetic, with one, three and one pictures."""
    rng = np.random.default_rng(0)
    return [
        prepare_portrait(vae, list(rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)))
        for count in (1, 3, 1)
    ]


def latents_of(seed: int) -> torch.Tensor:
    return torch.randn(64, 4 * BLOCKS, 1, 1, generator=torch.Generator().manual_seed(seed))


def request(name: str, latents: torch.Tensor, block: int) -> DecoderRequest:
    return DecoderRequest(session_id=name, latents=latents[:, 4 * block : 4 * block + 4])


def whole(vae, portrait, latents):
    with torch.no_grad():
        video = vae.decode(latents[None], reference_features=portrait.reference_features[None])[0]
    return tensor_to_frames(video)


def assert_same_pictures(actual, expected):
    # Rounding to 8 bits may fall to either side of a half.
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1
    assert np.mean(actual != expected) < 1e-3


def test_sessions_together_are_the_whole_decodes_of_each(vae, portraits):
    stage, names = DecoderStage(vae), ("a", "b", "c")
    latents, frames = [latents_of(seed) for seed in range(3)], ([], [], [])
    for step in range(BLOCKS + 2):
        due = [i for i in range(3) if 0 <= step - i < BLOCKS]
        for i in due:
            if step == i:
                stage.open(names[i], portraits[i].reference_features)
        results = stage.step([request(names[i], latents[i], step - i) for i in due])
        for i, result in zip(due, results, strict=True):
            frames[i].append(result)
    for portrait, z, mine in zip(portraits, latents, frames, strict=True):
        assert [len(block) for block in mine] == [13, 16, 16]
        assert_same_pictures(np.concatenate(mine), whole(vae, portrait, z))


def test_export_and_import_after_any_block_change_nothing(vae, portraits):
    latents, stage, frames = latents_of(0), DecoderStage(vae), []
    stage.open("a", portraits[1].reference_features)
    for block in range(BLOCKS):
        frames.append(stage.step([request("a", latents, block)])[0])
        state = stage.export("a")
        assert len(state) < 100_000
        stage = DecoderStage(vae)
        stage.open("a", portraits[1].reference_features, state)
    assert_same_pictures(np.concatenate(frames), whole(vae, portraits[1], latents))


def test_a_state_before_the_first_block_is_a_beginning(vae, portraits):
    stage, other = DecoderStage(vae), DecoderStage(vae)
    stage.open("a", portraits[0].reference_features)
    other.open("a", portraits[0].reference_features, stage.export("a"))
    latents = latents_of(3)
    mine, theirs = (s.step([request("a", latents, 0)])[0] for s in (stage, other))
    np.testing.assert_array_equal(mine, theirs)


def test_state_does_not_grow(vae, portraits):
    stage, sizes, memory = DecoderStage(vae), [], []
    stage.open("a", portraits[0].reference_features)
    for block in range(4):
        stage.step([request("a", latents_of(block), 0)])
        sizes.append(len(stage.export("a")))
        memory.append(stage.sessions["a"].history.num_bytes)
    assert len(set(sizes[1:])) == 1
    assert len(set(memory)) == 1


def test_wrong_use_is_told(vae, portraits):
    stage = DecoderStage(vae, max_sessions=1)
    stage.open("a", portraits[0].reference_features)
    with pytest.raises(StageFullError):
        stage.open("b", portraits[0].reference_features)
    with pytest.raises(UnknownSessionError):
        stage.step([request("b", latents_of(0), 0)])
    with pytest.raises(ValueError, match=r"latents must be \[64"):
        stage.step([DecoderRequest(session_id="a", latents=torch.zeros(32, 4, 1, 1))])
    with pytest.raises(ValueError, match="only once"):
        stage.step([request("a", latents_of(0), 0)] * 2)
    with pytest.raises(ValueError, match="session state"):
        DecoderStage(vae).open("a", portraits[0].reference_features, b"no state")

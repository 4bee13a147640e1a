"""Augmented examples stay examples: one change for a clip and its references, within the range, by the seed alone."""

from __future__ import annotations

import math

import torch

from pipelines.augmentation import (
    MAX_ROTATION,
    MAX_SCALE,
    MAX_SHIFT,
    augment,
    colour_matrices,
    jitter_references,
    random_placements,
)


def _example(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    video = torch.rand(batch, 3, 5, 6, 8) * 2 - 1
    return video, video[:, :, [4, 1]].transpose(1, 2).contiguous()


def _rng(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_clip_and_its_references_change_alike() -> None:
    video, references = _example()
    changed, their = augment(video, references, mirror=0.5, colour_jitter=0.4, rng=_rng())
    torch.testing.assert_close(their, changed[:, :, [4, 1]].transpose(1, 2))
    assert (changed - video).abs().flatten(1).amax(1).min() > 0.01
    assert changed.abs().max() <= 1


def test_mirroring_all_is_a_mirror_and_none_is_nothing() -> None:
    video, references = _example()
    mirrored, _ = augment(video, references, mirror=1.0, colour_jitter=0.0, rng=_rng())
    assert torch.equal(mirrored, video.flip(-1))
    same, their = augment(video, references, mirror=0.0, colour_jitter=0.0, rng=_rng())
    assert same is video
    assert their is references


def test_the_share_of_mirrored_examples_is_the_one_asked_for() -> None:
    video, references = torch.rand(2000, 3, 1, 1, 2), torch.rand(2000, 1, 3, 1, 2)
    mirrored, _ = augment(video, references, mirror=0.3, colour_jitter=0.0, rng=_rng())
    share = (mirrored != video).flatten(1).any(1).float().mean().item()
    assert abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 2000)


def test_equal_seeds_give_equal_changes() -> None:
    video, references = _example()
    changed = [
        augment(video, references, mirror=0.5, colour_jitter=0.4, rng=_rng(seed))[0] for seed in (5, 5, 6)
    ]
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])


def test_hues_turn_about_grey_and_gains_stay_in_their_bounds() -> None:
    strength = 0.25
    matrices = colour_matrices(500, strength, _rng())
    gains = matrices.norm(dim=2)  # a rotation's rows are unit vectors
    assert gains.max() <= 1 + strength + 1e-5
    assert gains.min() >= 1 / (1 + strength) - 1e-5
    turns = matrices / gains[..., None]
    grey = torch.ones(500, 3, 1)
    torch.testing.assert_close(turns @ grey, grey)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(500))
    angles = torch.arccos(((turns.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert 0.7 * strength * math.pi < angles.max() <= strength * math.pi + 1e-3


def test_the_share_of_moved_references_is_the_one_asked_for() -> None:
    references = torch.rand(500, 2, 3, 6, 6) * 2 - 1
    jittered = jitter_references(references, 0.75, _rng())
    changed = (jittered != references).flatten(2).any(2)
    assert abs(changed.float().mean().item() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 1000)
    assert (changed[:, 0] != changed[:, 1]).any()  # each on its own
    assert jittered.abs().max() <= 1


def test_without_a_share_or_references_nothing_is_drawn() -> None:
    references, rng = torch.rand(2, 3, 3, 6, 6), _rng()
    before = rng.get_state()
    assert jitter_references(references, 0.0, rng) is references
    assert jitter_references(references[:, :0], 0.5, rng).shape == (2, 0, 3, 6, 6)
    assert torch.equal(rng.get_state(), before)


def test_placements_are_similarities_within_their_bounds() -> None:
    theta = random_placements(2000, _rng())
    cos, sin = theta[:, 0, 0], theta[:, 1, 0]
    torch.testing.assert_close(theta[:, 1, 1], cos)
    torch.testing.assert_close(theta[:, 0, 1], -sin)
    angle, scale = torch.atan2(sin, cos).abs(), torch.hypot(sin, cos)
    assert 0.95 * MAX_ROTATION < angle.max() <= MAX_ROTATION + 1e-5
    assert 1 / MAX_SCALE - 1e-5 <= scale.min() < 0.9
    assert 1.1 < scale.max() <= MAX_SCALE + 1e-5
    shift = theta[:, :, 2].abs().amax() / 2  # affine_grid's coordinates span 2
    assert 0.95 * MAX_SHIFT < shift <= MAX_SHIFT


def test_a_jittered_picture_shows_the_same_thing_elsewhere() -> None:
    """A bright square is moved by no more than the bounds allow, and keeps its area up to the scale."""
    references = -torch.ones(300, 1, 3, 64, 64)
    references[:, :, :, 24:40, 24:40] = 1
    jittered = jitter_references(references, 1.0, _rng())
    bright = (jittered[:, 0, 0] + 1) / 2
    area = bright.sum((1, 2)) / 16**2
    assert area.min() > 1 / MAX_SCALE**2 - 0.05
    assert area.max() < MAX_SCALE**2 + 0.05
    columns = (bright.sum(1) * (torch.arange(64) + 0.5)).sum(1) / bright.sum((1, 2))
    moved = (columns - 32).abs() / 64
    assert moved.max() < MAX_SHIFT * MAX_SCALE + 0.02
    assert moved.max() > 0.07

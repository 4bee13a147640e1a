"""The time grid: blocks tile the frames, and a latent is where the VAE puts it."""

from __future__ import annotations

from portrait.speech.grid import block_frame_range, frame_range, frames_of_samples


def test_blocks_follow_each_other_without_gap():
    assert block_frame_range(0) == (0, 13)
    assert block_frame_range(1) == (13, 29)
    for block in range(20):
        assert block_frame_range(block)[1] == block_frame_range(block + 1)[0]
        assert block_frame_range(block + 1) == (16 * block + 13, 16 * block + 29)


def test_latents_are_the_first_frame_and_groups_of_four():
    assert frame_range(0, 1) == (0, 1)
    for latent in range(1, 10):
        assert frame_range(latent, 1) == (4 * latent - 3, 4 * latent + 1)


def test_a_started_frame_counts():
    assert [frames_of_samples(n) for n in (0, 1, 640, 641)] == [0, 1, 1, 2]

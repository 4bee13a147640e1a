"""The time grid: blocks tile the frames, and a latent is where the VAE puts it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from portrait import presets
from portrait.timing import (
    FIRST_BLOCK_FRAMES,
    FRAMES_PER_BLOCK,
    FRAMES_PER_LATENT,
    block_frame_range,
    block_of_frame,
    frame_range,
    frames_of_latents,
    frames_of_samples,
    is_whole_latents,
    whole_latent_frames,
)


def test_blocks_follow_each_other_without_gap():
    assert block_frame_range(0) == (0, 13)
    assert block_frame_range(1) == (13, 29)
    for block in range(20):
        assert block_frame_range(block)[1] == block_frame_range(block + 1)[0]
        assert block_frame_range(block + 1) == (16 * block + 13, 16 * block + 29)
    assert (FIRST_BLOCK_FRAMES, FRAMES_PER_BLOCK) == (13, 16)


def test_every_frame_lies_in_its_block():
    for frame in range(100):
        first, after = block_frame_range(block_of_frame(frame))
        assert first <= frame < after


def test_latents_are_the_first_frame_and_groups_of_four():
    assert frame_range(0, 1) == (0, 1)
    for latent in range(1, 10):
        assert frame_range(latent, 1) == (4 * latent - 3, 4 * latent + 1)
    assert [frames_of_latents(latents) for latents in (1, 2, 32)] == [1, 5, 125]


def test_clips_are_cut_to_whole_latents():
    assert [whole_latent_frames(n) for n in (1, 2, 4, 5, 8, 9)] == [1, 1, 1, 5, 5, 9]
    assert [n for n in range(10) if is_whole_latents(n)] == [1, 5, 9]


def test_a_started_frame_counts():
    assert [frames_of_samples(n) for n in (0, 1, 640, 641)] == [0, 1, 1, 2]


@pytest.mark.parametrize("name", presets.names())
def test_every_presets_vae_follows_the_grid(name):
    assert presets.load(name).vae.time_factor == FRAMES_PER_LATENT


def test_the_grid_is_read_without_torch_or_numpy():
    code = "import sys, portrait.timing; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Tests of portrait.media.tensors: the map between bytes and [-1, 1]."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portrait.media.tensors import frames_to_tensor, tensor_to_frames


def test_ends_of_the_range_and_layout() -> None:
    frames = np.zeros((2, 3, 4, 3), np.uint8)
    frames[1, 2, 3] = (255, 0, 51)
    video = frames_to_tensor(frames)
    assert video.shape == (3, 2, 3, 4)
    assert video.dtype == torch.float32
    torch.testing.assert_close(video[:, 1, 2, 3], torch.tensor([1.0, -1.0, 51 / 127.5 - 1]))


def test_every_level_survives_the_round_trip() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    np.testing.assert_array_equal(tensor_to_frames(frames_to_tensor(frames)), frames)


def test_values_outside_are_clamped_and_levels_rounded() -> None:
    video = torch.tensor([-1.5, 1.5, 0.6 / 127.5 - 1]).reshape(3, 1, 1, 1)
    assert tensor_to_frames(video).tolist() == [[[[0, 255, 1]]]]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 4)])
def test_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        frames_to_tensor(np.zeros(shape, np.uint8))

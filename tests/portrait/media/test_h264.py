"""Tests of portrait.media.h264: blocks that follow each other, whichever encoder made them."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from portrait.media.h264 import H264BlockEncoder

SIZE = 64


def _frames(count: int) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 255, (count, 6, 6, 3), np.uint8)
    return np.stack([cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for frame in small])


def test_a_block_is_plain_data_and_depends_on_nothing() -> None:
    frames, encoder = _frames(32), H264BlockEncoder(SIZE, SIZE)
    encoder.encode(frames[:16])
    second = encoder.encode(frames[16:])
    assert second == H264BlockEncoder(SIZE, SIZE).encode(frames[16:])
    assert pickle.loads(pickle.dumps(second)) == second
    assert second.num_frames == 16
    nal_types = [[unit & 0x1F for unit in _first_bytes(sample)] for sample in second.samples]
    assert nal_types == [[5]] + [[1]] * 15, "one IDR slice, then P slices, nothing else"


def _first_bytes(sample: bytes) -> list[int]:
    found, position = [], 0
    while position < len(sample):
        length = int.from_bytes(sample[position : position + 4], "big")
        found.append(sample[position + 4])
        position += 4 + length
    assert position == len(sample)
    return found


def test_parameter_sets_do_not_depend_on_instance_or_quality() -> None:
    sets = {H264BlockEncoder(SIZE, SIZE, crf=crf).parameter_sets for crf in (14, 20, 20, 33.5)}
    assert len(sets) == 1


def test_what_can_not_be_encoded_is_refused() -> None:
    with pytest.raises(ValueError, match="even, positive"):
        H264BlockEncoder(63, 64)
    with pytest.raises(ValueError, match="at least one"):
        H264BlockEncoder(SIZE, SIZE).encode(np.zeros((0, SIZE, SIZE, 3), np.uint8))

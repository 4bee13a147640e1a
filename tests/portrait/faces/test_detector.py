"""Tests of portrait.faces.detector: boxes mean the same whatever the detector."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.faces import YuNetDetector
from portrait.media.image_file import read_image_file
from portrait.media.video import iter_frames
from portrait.synthetic import render_clip


def test_nothing_in_noise_or_flat_pictures() -> None:
    detector = YuNetDetector()
    assert detector.detect(np.full((240, 320, 3), 90, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    assert detector.detect(noise) == []


def test_detector_travels_between_processes() -> None:
    detector = pickle.loads(pickle.dumps(YuNetDetector(working_size=200)))
    assert detector.working_size == 200


def test_rendered_heads_are_found_where_they_are() -> None:
    detector = YuNetDetector()
    frame = render_clip(0, 0.2, size=256).frames[0]
    (face,) = detector.detect(frame)
    assert face.score > 0.8
    shifted = np.roll(frame, (20, -30), axis=(0, 1))
    (moved,) = detector.detect(shifted)
    assert moved.centre[0] - face.centre[0] == pytest.approx(-30, abs=4)
    assert moved.centre[1] - face.centre[1] == pytest.approx(20, abs=4)


@pytest.mark.parametrize("height", [1080, 300])
def test_small_faces_are_found_by_a_finer_search(height: int) -> None:
    """A head of 90 pixels in the corner of a wide frame; the box is in pixels of that frame."""
    head = cv2.resize(render_clip(0, 0.2, size=256).frames[0], (90, 90), interpolation=cv2.INTER_AREA)
    frame = np.full((height, 1920, 3), 120, np.uint8)
    frame[height - 100 : height - 10, 1800:1890] = head
    (face,) = YuNetDetector().detect(frame)
    assert 1800 < face.centre[0] < 1890
    assert height - 100 < face.centre[1] < height - 10
    assert 30 < face.w < 60


@pytest.mark.parametrize("size", [(97, 131), (256, 144), (720, 1280)])
def test_the_same_face_is_found_at_any_size(size: tuple[int, int]) -> None:
    frame = render_clip(0, 0.2, size=256).frames[0]
    (face,) = YuNetDetector().detect(frame)
    side = min(size)
    canvas = np.full((*size, 3), 128, np.uint8)
    canvas[:side, :side] = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
    (scaled,) = YuNetDetector().detect(canvas)
    assert scaled.w * 256 / side == pytest.approx(face.w, rel=0.15)
    assert scaled.centre[0] * 256 / side == pytest.approx(face.centre[0], abs=0.08 * face.w)


@pytest.mark.slow
def test_sizes_of_search_agree_on_real_faces(real_material: Path) -> None:
    coarse, fine = YuNetDetector(), YuNetDetector(working_size=640)
    pictures = [next(iter_frames(path)) for path in sorted((real_material / "clips").iterdir())]
    pictures += [read_image_file(path) for path in sorted((real_material / "stills").glob("flux_*"))]
    for picture in pictures:
        face, truth = coarse.detect(picture)[0], fine.detect(picture)[0]
        assert abs(face.centre[0] - truth.centre[0]) < 0.1 * truth.w
        assert abs(face.centre[1] - truth.centre[1]) < 0.15 * truth.w
        assert 0.87 < face.w / truth.w < 1.15


def test_yunet_names_a_missing_or_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"yunet\.onnx"):
        YuNetDetector(tmp_path / "yunet.onnx")
    (tmp_path / "wrong.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"wrong\.onnx: not a YuNet model"):
        YuNetDetector(tmp_path / "wrong.onnx")

"""Landmarks: where the eyes and the mouth of a still are, and what happens where there is no face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from portrait.faces import NoFaceError
from portrait.faces.landmarks import NUM_LANDMARKS, FaceLandmarker
from portrait.media.image_file import read_image_file


@pytest.fixture(scope="module")
def landmarker(landmarker_bundle: Path) -> FaceLandmarker:
    return FaceLandmarker(landmarker_bundle)


@pytest.fixture(scope="module")
def portrait(real_material: Path) -> np.ndarray:
    return cv2.resize(read_image_file(real_material / "stills" / "flux_woman_0010.png"), (512, 512))


def test_landmarks_follow_the_picture_when_it_is_moved(
    landmarker: FaceLandmarker, portrait: np.ndarray
) -> None:
    matrix = cv2.getRotationMatrix2D((256, 256), 15, 0.8)
    moved = cv2.warpAffine(portrait, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    there, here = landmarker.find(moved), landmarker.find(portrait)
    assert here.shape == (NUM_LANDMARKS, 3)
    expected = here[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    face = np.ptp(here[:, 0])
    assert np.abs(there[:, :2] - expected).mean() < 0.03 * face


def test_eyes_nose_and_mouth_are_in_order(landmarker: FaceLandmarker, portrait: np.ndarray) -> None:
    points = landmarker.find(portrait)
    assert points[33, 0] < points[4, 0] < points[263, 0]
    assert points[10, 1] < points[33, 1] < points[4, 1] < points[13, 1] < points[152, 1]
    assert points[4, 2] < points[234, 2]  # the nose is nearer than the cheek


def test_a_face_that_fills_the_picture_is_found(landmarker: FaceLandmarker, portrait: np.ndarray) -> None:
    whole = landmarker.find(portrait)[:, :2]
    x0, y0 = np.floor(whole.min(0)).astype(int)
    x1, y1 = np.ceil(whole.max(0)).astype(int)
    tight = landmarker.find(np.ascontiguousarray(portrait[y0:y1, x0:x1]))[:, :2] + [x0, y0]
    assert np.abs(tight - whole).mean() < 0.04 * (x1 - x0)


def test_noise_has_no_face(landmarker: FaceLandmarker) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    with pytest.raises(NoFaceError, match="no face found in the picture"):
        landmarker.find(noise)


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.task: no such file"):
        FaceLandmarker(tmp_path / "nowhere.task")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.task").write_bytes(b"not a zip file")
    with pytest.raises(ValueError, match=r"other\.task: expected MediaPipe's face landmarker bundle"):
        FaceLandmarker(tmp_path / "other.task")


@pytest.mark.skipif(cv2.__version__ != "5.0.0", reason="only this release cannot read the network")
def test_a_release_that_cannot_read_the_network_is_named(real_material: Path) -> None:
    with pytest.raises(ValueError, match=r"OpenCV 5\.0\.0 reads only one .* opencv-python-headless<5"):
        FaceLandmarker(real_material / "weights" / "face_landmarker.task")

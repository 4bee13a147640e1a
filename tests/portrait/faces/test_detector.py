"""Tests of portrait.faces.detector: boxes mean the same whatever the detector."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from portrait.faces import Face, HaarDetector, YuNetDetector
from portrait.faces.detector import drop_nested
from portrait.media.image_file import read_image_file
from portrait.media.video import iter_frames
from portrait.synthetic import render_clip


def _face(x: float, y: float, w: float, score: float = 1.0) -> Face:
    return Face(x=x, y=y, w=w, h=1.4 * w, score=score)


def test_parts_of_a_face_are_dropped() -> None:
    whole, part, other = _face(0, 0, 100), _face(30, 30, 40), _face(200, 0, 50)
    assert drop_nested([whole, other, part]) == [whole, other]


def test_nothing_in_noise_or_flat_pictures() -> None:
    detector = HaarDetector()
    assert detector.detect(np.full((240, 320, 3), 90, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    assert detector.detect(noise) == []


def test_detector_travels_between_processes() -> None:
    detector = pickle.loads(pickle.dumps(HaarDetector(working_size=200)))
    assert detector.working_size == 200


@pytest.mark.slow
def test_haar_and_yunet_agree_on_real_faces(real_material: Path) -> None:
    haar, yunet = HaarDetector(), YuNetDetector(real_material / "weights" / "yunet_n_640_640.onnx")
    pictures = [next(iter_frames(path)) for path in sorted((real_material / "clips").iterdir())]
    pictures += [read_image_file(path) for path in sorted((real_material / "stills").glob("flux_*"))]
    found = 0
    for picture in pictures:
        faces, truth = haar.detect(picture), yunet.detect(picture)[0]
        if not faces:
            continue
        best = faces[0]
        found += 1
        assert abs(best.centre[0] - truth.centre[0]) < 0.2 * truth.w
        assert abs(best.centre[1] - truth.centre[1]) < 0.2 * truth.w
        assert 0.8 < best.w / truth.w < 1.25
    assert found >= len(pictures) - 2


def test_yunet_names_a_missing_or_wrong_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"yunet\.onnx"):
        YuNetDetector(tmp_path / "yunet.onnx")
    (tmp_path / "wrong.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"wrong\.onnx: not a YuNet model"):
        YuNetDetector(tmp_path / "wrong.onnx")


def test_near_where_a_face_was_the_same_face_is_found_and_elsewhere_none() -> None:
    detector = HaarDetector()
    found = 0
    for number in range(6):
        frame = render_clip(number, 0.2, size=256).frames[0]
        whole = detector.detect(frame)
        if not whole:
            continue
        found += 1
        face = whole[0]
        was = Face(x=face.x + 0.12 * face.w, y=face.y - 0.1 * face.w, w=1.1 * face.w, h=1.1 * face.h, score=9)
        (near,) = detector.detect(frame, was)
        assert abs(near.centre[0] - face.centre[0]) < 0.08 * face.w
        assert abs(near.centre[1] - face.centre[1]) < 0.08 * face.w
        assert abs(near.w / face.w - 1) < 0.12
        for x, y in ((-3 * face.w, 0), (900, 900), (-900, -900)):
            assert detector.detect(frame, Face(x=x, y=y, w=face.w, h=face.h, score=9)) == []
        tiny = Face(x=face.x, y=face.y, w=face.w / 3, h=face.h / 3, score=9)
        assert detector.detect(frame, tiny) == [], "another size is another face"
    assert found >= 4


def test_narrower_faces_than_asked_for_need_not_be_found() -> None:
    detector = HaarDetector()
    found = 0
    for number in range(6):
        frame = render_clip(number, 0.2, size=256).frames[0]
        for face in detector.detect(frame)[:1]:
            found += 1
            (same,) = detector.detect(frame, least=0.6 * face.w)
            assert abs(same.centre[0] - face.centre[0]) < 0.08 * face.w
            assert abs(same.w / face.w - 1) < 0.12
            assert detector.detect(frame, least=1.7 * face.w) == []
    assert found >= 4

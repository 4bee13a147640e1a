"""Face embeddings on real people: the same one is near, others are far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from portrait.media.video import read_video
from portrait.metrics.identity import FaceEmbedder, identity_similarity


@pytest.fixture(scope="module")
def embedder(real_material: Path) -> FaceEmbedder:
    weights = real_material / "weights"
    return FaceEmbedder(weights / "MobileFaceNet.onnx", weights / "yunet_n_640_640.onnx")


@pytest.fixture(scope="module")
def people(real_material: Path) -> dict[str, np.ndarray]:
    names = ("woman_a_1", "woman_a_2", "woman_c", "man_b")
    return {name: read_video(real_material / "clips" / f"{name}.mp4").frames[[10, 60, 110]] for name in names}


def test_the_same_person_in_another_take_is_nearer_than_others(
    embedder: FaceEmbedder, people: dict[str, np.ndarray]
) -> None:
    first = people["woman_a_1"]
    same = identity_similarity(embedder, people["woman_a_2"], first)
    others = [identity_similarity(embedder, people[name], first) for name in ("woman_c", "man_b")]
    assert same is not None
    assert same > 0.7
    assert all(other is not None and other < 0.4 for other in others)
    assert identity_similarity(embedder, first[:1], first[:1]) == pytest.approx(1, abs=1e-5)


def test_the_frames_size_matters_little(embedder: FaceEmbedder, people: dict[str, np.ndarray]) -> None:
    whole = people["woman_c"]
    half = whole[:, ::2, ::2]
    similar = identity_similarity(embedder, half, whole)
    assert similar is not None
    assert similar > 0.8


def test_no_face_is_no_number(embedder: FaceEmbedder, people: dict[str, np.ndarray]) -> None:
    nothing = np.full((2, 128, 128, 3), 90, np.uint8)
    assert embedder.embed(nothing[0]) is None
    assert identity_similarity(embedder, nothing, people["woman_c"]) is None
    assert identity_similarity(embedder, people["woman_c"], nothing) is None


def test_files_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        FaceEmbedder(tmp_path / "none.onnx", tmp_path / "none.onnx")
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"wrong\.onnx"):
        FaceEmbedder(wrong, wrong)

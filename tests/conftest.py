"""What the tests share: real material where it is at hand, one local Ray a session, the same random numbers every time.

Tests mirror the sources: `tests/portrait/vae/test_decoder.py` tests `platform/portrait/vae/decoder.py`. There is no
`__init__.py` below `tests/`: in pytest's importlib mode `tests/portrait` doesn't hide the package `portrait`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from portrait.media.audio import encode_flac
from portrait.media.mp4 import encode_video
from portrait.storage.clips import CLIPS_SCHEMA, commit_clips, write_clips
from portrait.synthetic import render_clip

REPOSITORY = Path(__file__).resolve().parent.parent

# Two cores must do for a test machine: one thread a process, and no reports of usage to anyone.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
# Ray's workers are other processes: without a GPU, DeepSpeed must not go looking for one there either.
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Seeds the global generators before every test, so that a failure comes back when the test is run alone."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_material() -> Path:
    """The folder with real clips, stills and speech; skips where there is none.

    It is `PORTRAIT_MATERIAL`, or `shared/` beside the repository.
    """
    folder = Path(os.environ.get("PORTRAIT_MATERIAL", REPOSITORY.parent / "shared"))
    if not (folder / "clips").is_dir():
        pytest.skip(
            f"no real footage: neither PORTRAIT_MATERIAL nor {folder.name}/clips beside the repository"
        )
    return folder


@pytest.fixture(scope="session")
def landmarker_bundle(real_material: Path) -> Path:
    """MediaPipe's face landmarker among the real material; skips without it, or if OpenCV cannot run it."""
    import cv2

    bundle = real_material / "weights" / "face_landmarker.task"
    if not bundle.is_file():
        pytest.skip(f"no face landmarker bundle at {bundle}")
    if cv2.__version__ == "5.0.0":
        pytest.skip("OpenCV 5.0.0 reads only one output of the face landmarker")
    return bundle


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for the whole session, with four logical CPUs whatever the machine has."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=400 * 1024**2,
    )
    try:
        yield
    finally:
        ray.shutdown()


@pytest.fixture(scope="session")
def micro_clips(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A clips table of four synthetic clips of 29 frames, three to train on and one held out."""
    uri = str(tmp_path_factory.mktemp("tables") / "clips.lance")
    rows = []
    for number in range(4):
        clip = render_clip(number, 1.2, size=64)
        row = dict.fromkeys(CLIPS_SCHEMA.names)
        row |= {"clip_id": f"clip{number}", "source": "synthetic", "identity": f"id{number}"}
        row |= {"split": "test" if number == 3 else "train", "num_frames": 29, "fps": 25.0}
        row |= {"height": 64, "width": 64, "video": encode_video(clip.frames[:29])}
        row |= {"audio": encode_flac(clip.audio[: 29 * 640])}
        rows.append(row)
    commit_clips(uri, write_clips(uri, rows))
    return uri


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that asks for the shared Ray is marked `ray`, so that `-m "not ray"` leaves all of them out."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))

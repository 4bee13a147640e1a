"""Photographs as a source: what it needs, who is who, and what becomes of pictures without a face."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.sources import open_source
from data_prep.sources.photos import PhotoSettings, PhotoSource
from portrait.media.video import read_video


def test_a_landmarker_is_required(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"photos:.* needs --photos\.landmarker"):
        open_source(f"photos:{tmp_path}", render_folder=tmp_path)


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"seconds": 0.0}, {"seconds": -1.0}])
def test_clips_and_seconds_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"photos\.clips and photos\.seconds must be positive"):
        PhotoSettings(**wrong)  # type: ignore[arg-type]


def test_a_folder_that_is_missing_or_holds_no_picture_is_named(tmp_path: Path) -> None:
    settings = PhotoSettings(landmarker=tmp_path / "face_landmarker.task")
    missing = PhotoSource.configured(tmp_path / "nowhere", settings, tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        missing.files()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no picture \(\.bmp"):
        PhotoSource.configured(tmp_path / "empty", settings, tmp_path).files()


def test_a_wrong_landmarker_is_no_photographs_fault(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    settings = PhotoSettings(landmarker=tmp_path / "nowhere.task")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.task: no such file"):
        PhotoSource.configured(tmp_path, settings, tmp_path).files()


def test_photographs_become_videos_once_and_pictures_without_a_face_are_reported(
    tmp_path: Path, real_material: Path, landmarker_bundle: Path, ray_session: None
) -> None:
    photos, rendered = tmp_path / "photos", tmp_path / "rendered"
    (photos / "more").mkdir(parents=True)
    shutil.copy(real_material / "stills" / "flux_woman_0010.png", photos / "a.png")
    shutil.copy(photos / "a.png", photos / "more" / "again.png")
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    cv2.imwrite(str(photos / "noise.jpg"), noise)
    (photos / "broken.jpg").write_bytes(b"not a picture")
    (photos / "notes.txt").write_text("no picture")
    settings = PhotoSettings(landmarker=landmarker_bundle, clips=2, seconds=0.4)
    source = open_source(f"photos:{photos}", render_folder=rendered, licence="CC0", photos=settings)
    files = source.files()
    problems = {Path(file.path).name: file.problem for file in files if file.problem}
    assert problems == {
        "broken.jpg": "not an image file, or of an unknown format",
        "noise.jpg": "no face found in the picture",
    }
    videos = [file for file in files if file.problem is None]
    assert len(videos) == 4  # the copy is the same person in the same videos
    assert len({file.path for file in videos}) == 2
    assert len({file.identity for file in videos}) == 1
    assert {(file.source, file.licence) for file in videos} == {("photos", "CC0")}
    clip = read_video(videos[0].path)
    assert clip.frames.shape[0] == 10
    before = [Path(file.path).stat().st_mtime_ns for file in videos]
    assert [Path(file.path).stat().st_mtime_ns for file in source.files() if not file.problem] == before

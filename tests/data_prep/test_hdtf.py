"""Tests of data_prep.sources.hdtf, on lines as they stand in the authors' files."""

from pathlib import Path

import pytest

from data_prep.sources import open_source
from data_prep.sources.hdtf import HDTFSource

TIMES = "Radio11.mp4 00:30-01:00 01:30-02:30\nRadio12.mp4 00:25-01:00\n"
CROPS = "Radio11_0.mp4 412 599 0 599\nRadio12_0.mp4 299 472 3 472\n"


def collection(tmp_path: Path, *videos: str) -> Path:
    (tmp_path / "HDTF_dataset").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "HDTF_dataset" / "RD_annotion_time.txt").write_text(TIMES)
    (tmp_path / "HDTF_dataset" / "RD_crop_wh.txt").write_text(CROPS)
    wda = "BenCardin0.mp4 00:10-00:30\nBenCardin1.mp4 1:00:05-1:02:00\n"
    (tmp_path / "HDTF_dataset" / "WDA_annotion_time.txt").write_text(wda)
    for video in videos:
        (tmp_path / "videos" / video).write_bytes(b"x")
    return tmp_path


def test_every_part_of_a_video_that_is_there(tmp_path):
    folder = collection(tmp_path, "Radio11.mp4", "BenCardin0.mp4", "BenCardin1.mkv")
    source = open_source(f"hdtf:{folder}", render_folder=tmp_path, licence="mine")
    files = source.files()
    assert source.name == "hdtf"
    assert {file.licence for file in files} == {"mine"}
    assert [(Path(f.path).name, f.identity, f.start_s, f.end_s, f.region) for f in files] == [
        ("Radio11.mp4", "Radio11", 30.0, 60.0, (412, 0, 599, 599)),
        ("Radio11.mp4", "Radio11", 90.0, 150.0, None),
        ("BenCardin0.mp4", "BenCardin", 10.0, 30.0, None),
        ("BenCardin1.mkv", "BenCardin", 3605.0, 3720.0, None),
    ]
    assert len({file.content_hash() for file in files}) == 4


def test_no_annotations_no_videos_and_lines_that_say_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(
        FileNotFoundError, match=r"contains no HDTF annotations; expected RD_annotion_time\.txt"
    ):
        HDTFSource(folder=tmp_path).files()
    folder = collection(tmp_path, "else.mp4")
    with pytest.raises(ValueError, match="none of the 2 videos has a name from HDTF's annotations"):
        HDTFSource(folder=folder).files()
    times = folder / "HDTF_dataset" / "RD_annotion_time.txt"
    for text, message in (("00:30", "line 1: expected time spans"), ("00:30-00:10", "ends before it starts")):
        times.write_text(f"Radio11.mp4 {text}\n")
        with pytest.raises(ValueError, match=message):
            HDTFSource(folder=folder).files()
    times.write_text(TIMES)
    (folder / "HDTF_dataset" / "RD_crop_wh.txt").write_text("Radio11_0.mp4 1 2 3\n")
    with pytest.raises(ValueError, match="line 1: expected NAME left width top height"):
        HDTFSource(folder=folder).files()

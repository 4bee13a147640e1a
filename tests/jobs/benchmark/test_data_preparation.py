"""The benchmark of data preparation does its work, FFmpeg alone does the same but for the face, and both are timed."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage
from jobs.benchmark import data_preparation
from jobs.benchmark.data_preparation import REST, STEPS, DataPreparationBenchmark, FileCost, Totals
from portrait.media.audio import read_audio
from portrait.media.soundtrack import read_soundtrack
from portrait.media.video import iter_frames, probe
from portrait.synthetic import write_dataset

SETTINGS = CutSettings(size=64)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg command")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    write_dataset(folder, 2, 1, 1.4, 192, progress=False)
    return folder


def cost_of(name: str, ours: list[float], ffmpeg: list[float]) -> FileCost:
    row = {"num_frames": 50, "fps": 25.0}
    return FileCost(
        footage=Footage(path=f"/footage/{name}.mp4", identity=name, source="test"),
        rows=[row, row],
        rejects=[],
        steps={**dict.fromkeys(STEPS, 1.0), REST: 2.0},
        ours=ours,
        ffmpeg=ffmpeg,
    )


@needs_ffmpeg
def test_every_file_is_prepared_and_timed(footage: Path, tmp_path: Path) -> None:
    folder = tmp_path / "footage"
    shutil.copytree(footage, folder)
    (folder / "broken.mp4").write_bytes(b"no video")
    config = DataPreparationBenchmark(source=folder, size=64, repeats=2, output=tmp_path / "run")
    costs = data_preparation.main(config)
    *prepared, broken = sorted(costs, key=lambda cost: not cost.rows)
    assert len(prepared) == 2
    for cost in prepared:
        expected, _ = cut_file(cost.footage, cost.footage.content_hash(), "train", SETTINGS)
        assert cost.rows == expected
        assert len(cost.ours) == len(cost.ffmpeg) == 2
        assert cost.steps.keys() == {*STEPS, REST}
        assert cost.steps["face detection and track"] > 0
    assert not broken.ours
    text = (config.output / "benchmark_data_preparation.md").read_text()
    assert "| all | 2 |" in text
    assert all(f"| {step} |" in text for step in (*STEPS, REST))
    assert "broken.mp4" in text.split("Rejected: ")[1]
    records = json.loads((config.output / "benchmark_data_preparation.json").read_text())
    assert [record["clips"] for record in records] == [len(cost.rows) for cost in costs]


def test_the_ratio_is_ffmpegs_time_over_ours_of_all_files_together() -> None:
    costs = [
        cost_of("ann", [4.0, 6.0, 5.0], [1.0, 2.0, 1.0]),
        cost_of("bob", [6.0, 6.0, 5.0], [3.0, 2.0, 3.0]),
    ]
    assert Totals.of(costs) == Totals(ours=10.0, ffmpeg=4.0, ratios=[4 / 10, 4 / 12, 4 / 10])
    report = data_preparation.report(costs, 64)
    assert "| ann.mp4 | 2 | 4.0 | 5.00 | 1.00 | 0.200 (0.200 … 0.333) |" in report.text
    assert "| all | 4 | 8.0 | 10.00 | 4.00 | 0.400 (0.333 … 0.400) |" in report.text
    assert report.metrics["ratio"] == 0.4


def test_steps_are_told_apart(footage: Path, tmp_path: Path) -> None:
    file, _ = FolderSource(folder=footage).files()
    spent, (rows, rejects) = data_preparation.profiled(
        lambda: data_preparation.prepare(file, SETTINGS, tmp_path / "clips.lance")
    )
    assert len(rows) == 1
    assert not rejects
    # Every step takes time: a function that was renamed or is no longer called would be missing here.
    assert all(spent[step] > 0 for step in STEPS)
    nothing, _ = data_preparation.profiled(lambda: None)
    assert sum(nothing[step] for step in STEPS) == 0


@needs_ffmpeg
def test_ffmpeg_alone_makes_what_the_table_would_keep(footage: Path, tmp_path: Path) -> None:
    source = FolderSource(folder=footage).files()[0].path
    data_preparation.transcode(source, tmp_path, SETTINGS)
    info = probe(tmp_path / "video.mp4")
    before = list(iter_frames(source))
    assert (info.width, info.height, info.fps, info.codec) == (64, 64, 25.0, "h264")
    assert info.num_frames == len(before)
    with av.open(io.BytesIO((tmp_path / "video.mp4").read_bytes())) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [*range(0, len(packets), 16)]
    sound, expected = read_audio(tmp_path / "audio.flac"), read_soundtrack(source)
    assert expected is not None
    shared = min(len(sound), len(expected)) - 1600
    assert np.corrcoef(sound[:shared], expected[:shared])[0, 1] > 0.98


@needs_ffmpeg
def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    output = tmp_path / "run"
    with pytest.raises(ValueError, match=r"broken\.mp4: ffmpeg failed: "):
        data_preparation.transcode(str(broken), tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"no file gave a clip: .*broken\.mp4"):
        data_preparation.main(DataPreparationBenchmark(source=broken, size=64, output=output))
    with pytest.raises(ValueError, match="--repeats must be at least 1, got 0"):
        data_preparation.main(DataPreparationBenchmark(source=broken, repeats=0, output=output))
    assert not output.exists()


def test_a_missing_ffmpeg_is_named(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="needs the ffmpeg program"):
        data_preparation.main(DataPreparationBenchmark(source=footage, output=tmp_path / "run"))

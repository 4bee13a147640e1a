"""The chain's benchmark does the chain's work, and its tables have all rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import benchmark, benchmark_tables
from data_prep.benchmark import STAGES, FileCost, Ratio, Seconds, measure_all, ratio
from data_prep.cut_settings import CutSettings
from data_prep.cutting import cut_file
from data_prep.rejects import Reject
from data_prep.sources import FolderSource, Footage
from data_prep.transcoding import transcoder

SETTINGS = CutSettings(size=64)


def cost_of(name: str, chain: list[float], ffmpeg: list[float]) -> FileCost:
    row = {"num_frames": 50, "fps": 25.0}
    return FileCost(
        footage=Footage(path=f"/footage/{name}.mp4", identity=name, source="test"),
        rows=[row, row],
        rejects=[],
        stages={**dict.fromkeys(STAGES, 1.0), "the rest": 2.0},
        chain=[Seconds(wall=2 * s, cpu=s) for s in chain],
        ffmpeg=[Seconds(wall=3 * s, cpu=s) for s in ffmpeg],
    )


def test_the_clips_are_those_of_the_chain_and_each_repeat_is_timed(
    footage: Callable[..., Path], tmp_path: Path
) -> None:
    folder = footage(2)
    (folder / "broken.mp4").write_bytes(b"no video")
    files = FolderSource(folder=folder).files()
    transcode, _ = transcoder(SETTINGS)
    costs = list(measure_all(files, SETTINGS, transcode, repeats=2))
    assert [Path(cost.footage.path).name for cost in costs] == ["ann.mp4", "bob.mp4", "broken.mp4"]
    for cost in costs[:2]:
        expected, _ = cut_file(cost.footage, cost.footage.content_hash(), "train", SETTINGS)
        assert cost.rows == expected
        assert len(cost.chain) == len(cost.ffmpeg) == 2
        assert cost.stages.keys() == {*STAGES, "the rest"}
        assert cost.stages["face detection and track"] > 0
    assert not costs[2].chain
    text = benchmark_tables.against_ffmpeg(costs, "an ffmpeg")
    assert all(name in text for name in ("| ann.mp4 | 1 |", "| bob.mp4 | 1 |", "| all | 2 |", "an ffmpeg"))
    assert "Left out: " in text
    assert "broken.mp4" in text.split("Left out: ")[1]
    stages = benchmark_tables.by_stage(costs)
    assert all(f"| {stage} |" in stages for stage in (*STAGES, "the rest"))
    assert [record["file"] for record in benchmark_tables.as_records(costs)] == [
        "ann.mp4",
        "bob.mp4",
        "broken.mp4",
    ]


def test_the_ratio_is_ffmpegs_time_over_the_chains_of_all_files_together() -> None:
    costs = [
        cost_of("ann", [4.0, 6.0, 5.0], [1.0, 2.0, 1.0]),
        cost_of("bob", [6.0, 6.0, 5.0], [3.0, 2.0, 3.0]),
    ]
    assert ratio(costs, "cpu") == Ratio(median=4 / 10, least=4 / 12, most=4 / 10)
    assert ratio(costs, "wall").median == pytest.approx(12 / 20)
    text = benchmark_tables.against_ffmpeg(costs, "an ffmpeg")
    assert "| ann.mp4 | 2 | 4.0 | 5.00 | 1.00 | 0.200 |" in text
    assert "0.400 (0.333 … 0.400)" in text


def test_no_clip_at_all_is_told_with_the_reasons() -> None:
    cost = cost_of("ann", [], [])
    cost.rejects.append(Reject(path="ann.mp4", reason="no audio track"))
    with pytest.raises(ValueError, match=r"no file gave a clip: ann\.mp4: no audio track"):
        ratio([cost], "cpu")


def test_no_repeat_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be positive, got 0"):
        list(measure_all([], SETTINGS, lambda *_: None, repeats=0))


def test_stages_are_told_apart(footage: Callable[..., Path], tmp_path: Path) -> None:
    (file,) = FolderSource(folder=footage(1)).files()
    spent, (rows, rejects) = benchmark.profiled(
        lambda: benchmark.chain(file, SETTINGS, tmp_path / "clips.lance")
    )
    assert len(rows) == 1
    assert not rejects
    assert all(seconds >= 0 for seconds in spent.values())
    nothing, _ = benchmark.profiled(lambda: None)
    assert sum(nothing[stage] for stage in STAGES) == 0

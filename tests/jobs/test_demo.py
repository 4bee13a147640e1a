"""The demo replaces only folders of an earlier demo, and the whole chain runs on rendered footage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs import demo
from portrait.media.tracks import read_tracks
from portrait.storage.checkpoints import read_header
from portrait.storage.clips import ClipTable


def test_a_folder_that_is_not_from_a_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not from a demo"):
        demo.prepare_folder(demo.Demo(output=tmp_path, from_scratch=True))
    assert (tmp_path / "thesis.txt").exists()


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    config = demo.Demo(output=tmp_path / "demo", from_scratch=True)
    paths = demo.prepare_folder(config)
    (paths.folder / "clips.lance").mkdir()
    demo.prepare_folder(config)
    assert sorted(path.name for path in paths.folder.iterdir()) == [demo.MARKER]


def test_wrong_settings_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    with pytest.raises(ValueError, match="unknown preset 'huge'"):
        demo.prepare_folder(demo.Demo(output=output, preset="huge"))
    with pytest.raises(ValueError, match="preset 'paper' has no starter weights"):
        demo.prepare_folder(demo.Demo(output=output, preset="paper"))
    with pytest.raises(FileNotFoundError, match="not/there"):
        demo.prepare_folder(demo.Demo(output=output, source=Path("not/there"), from_scratch=True))
    assert not output.exists()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_whole_chain(tmp_path: Path, repository: Path) -> None:
    output = tmp_path / "demo"
    command = [sys.executable, "-m", "jobs.demo", "--output", str(output), "--from-scratch"]
    command += ["--vae-minutes", "0.1", "--generator-minutes", "0.1", "--speech-seconds", "2"]
    answer = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=880)
    assert answer.returncode == 0, answer.stdout[-4000:] + answer.stderr[-4000:]

    assert ClipTable.open(str(output / "clips.lance")).num_rows >= 20
    assert read_header(output / "vae.safetensors").preset.name == "tiny"
    assert read_header(output / "generator.safetensors").preset.name == "tiny"
    assert read_tracks(output / "portrait.mp4").mismatches(2.0) == []
    assert (output / "contact_sheet.png").stat().st_size > 10_000
    for said in (
        "PSNR on held-out clips: M=0",
        "with the right speech",
        "median latency",
        "mlflow ui --backend-store-uri",
    ):
        # the terminal is narrow: the table breaks lines anywhere between words
        assert said in " ".join(answer.stdout.split()), answer.stdout

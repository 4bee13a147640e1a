"""The folder of clips: whole, resumable, with the truth beside (about 5 s)."""

from pathlib import Path

import av
import numpy as np
import pytest

from portrait.synthetic import dataset as dataset_module
from portrait.synthetic import render_clip, write_dataset


def test_files_hold_the_clip_and_its_truth(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path, 1, 2, 1.0, 64, first_identity=5, progress=False)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == ["id00005/clip00.mp4", "id00005/clip01.mp4"]
    clip = render_clip(5, 1.0, size=64, clip_seed=1)
    with av.open(str(paths[1])) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert frames.shape == clip.frames.shape
    error = (frames.astype(float) - clip.frames) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 28
    with av.open(str(paths[1])) as container:
        seconds = sum(f.samples for f in container.decode(audio=0)) / container.streams.audio[0].rate
    assert seconds == pytest.approx(1.0, abs=0.15)
    truth = np.load(paths[1].with_suffix(".npz"))
    assert np.array_equal(truth["mouth_opening_px"], clip.mouth_opening_px)
    assert truth["identity"] == 5


def test_complete_clips_are_kept_and_missing_ones_made(tmp_path: Path) -> None:
    first, second = write_dataset(tmp_path, 2, 1, 0.2, 64, progress=False)
    kept = first.stat().st_mtime_ns
    second.unlink()
    write_dataset(tmp_path, 2, 1, 0.2, 64, progress=False)
    assert first.stat().st_mtime_ns == kept
    assert second.exists()


def test_nothing_half_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(dataset_module, "write_mp4", broken)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path, 1, 1, 0.2, 64, progress=False)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_counts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="identities"):
        write_dataset(tmp_path, 0, 1, 1.0, 64)

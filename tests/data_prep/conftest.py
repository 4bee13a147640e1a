"""Small footage with faces, rendered once a session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from portrait.synthetic import write_dataset


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five videos of 1.4 s, of five people."""
    return write_dataset(tmp_path_factory.mktemp("heads"), 5, 1, 1.4, 192, progress=False)


@pytest.fixture
def footage(heads: list[Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with the first videos, `ann.mp4`, `bob.mp4`, …"""

    def make(people: int = 3) -> Path:
        folder = tmp_path / "footage"
        folder.mkdir(exist_ok=True)
        for name, video in zip(("ann", "bob", "cem", "dora", "eve")[:people], heads, strict=False):
            shutil.copy(video, folder / f"{name}.mp4")
        return folder

    return make

"""Tests of data_prep.stream_copies: the same packets are recognised in any container, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.sources.footage import Footage
from data_prep.stream_copies import merge_copies, payload_hash

StreamCopy = Callable[[Path, Path], Path]


def _footage(path: Path, **part) -> Footage:
    return Footage(path=str(path), identity=path.stem, source="test", **part)


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".mp4"])
def test_a_stream_copy_has_the_same_packets(
    heads: list[Path], stream_copy: StreamCopy, tmp_path: Path, suffix: str
) -> None:
    copy = stream_copy(heads[0], tmp_path / f"copy{suffix}")
    assert copy.read_bytes() != heads[0].read_bytes()
    assert payload_hash(_footage(copy)) == payload_hash(_footage(heads[0])) != ""


def test_other_footage_has_others(heads: list[Path]) -> None:
    assert len({payload_hash(_footage(head)) for head in heads}) == len(heads)


def test_what_is_not_compared(heads: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert payload_hash(_footage(tmp_path / "text.mp4")) == ""
    assert payload_hash(_footage(tmp_path / "none.mp4")) == ""
    assert payload_hash(_footage(heads[0], start_s=1.0)) == ""


@pytest.mark.parametrize(("known", "kept"), [((), "a"), (("b",), "b"), (("c",), "a")])
def test_copies_get_the_hash_of_the_known_one_or_of_the_first(known: tuple[str, ...], kept: str) -> None:
    files = [_footage(Path(name)) for name in ("ann", "cem", "bob", "dora")]
    hashed = list(zip(files, "acbd", strict=True))
    merged = merge_copies(hashed, ["same", "", "same", ""], known)
    assert merged == list(zip(files, (kept, "c", kept, "d"), strict=True))

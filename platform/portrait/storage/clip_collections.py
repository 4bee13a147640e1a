"""Clips wherever they lie: a table, or a folder of shards; readers take either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from portrait.storage.clips import ClipTable
from portrait.storage.sharded_clips import ShardedClips
from portrait.storage.shards import INDEX


class Clips(Protocol):
    """What readers need of a collection of clips; `ClipTable` and `ShardedClips` are two."""

    @property
    def num_rows(self) -> int: ...

    @property
    def version(self) -> int: ...

    def rows(self, columns: Sequence[str] = ...) -> list[dict[str, Any]]: ...

    def read_video(self, indices: Sequence[int]) -> list[bytes]: ...

    def read_audio(self, indices: Sequence[int]) -> list[bytes]: ...

    def read_media(self, indices: Sequence[int]) -> list[tuple[bytes, bytes]]: ...


def open_clips(uri: str, version: int | None = None) -> Clips:
    """A clips table, or the shards that `export_shards` wrote into a local folder.

    Raises:
        FileNotFoundError: there is neither, or not in that version.
        ValueError: what is there is neither.
    """
    if "://" not in uri and (Path(uri) / INDEX).is_file():
        return ShardedClips.open(Path(uri), version)
    return ClipTable.open(uri, version)

"""Opens a collection of clips, whichever form it has: a table or a folder of shards."""

from __future__ import annotations

from pathlib import Path

from portrait.storage.clips import Clips, ClipTable
from portrait.storage.sharded_clips import ShardedClips
from portrait.storage.shards import INDEX


def open_clips(uri: str, version: int | None = None) -> Clips:
    """Opens a clips table, or the shards that `export_shards` wrote to a local folder.

    Raises:
        FileNotFoundError: there is neither at this place, or not in this version.
        ValueError: the place holds something else, or is damaged.
    """
    if "://" not in uri and (Path(uri) / INDEX).is_file():
        return ShardedClips.open(Path(uri), version)
    return ClipTable.open(uri, version)

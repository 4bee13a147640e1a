"""Clips as loose files in a folder, as people keep them without a table: what reading a table is measured against.

`CLIP_ID.mp4` (H.264) and `CLIP_ID.flac` for every clip, and `clips.json` with the other columns, in the order of the
collection they came from.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portrait.storage.clip_by_clip import ClipByClip
from portrait.storage.clip_collections import Clips
from portrait.storage.shards import MEDIA

LOOSE_INDEX = "clips.json"
_COLUMNS = ("clip_id", "source", "identity", "split", "num_frames", "fps", "height", "width", "provenance")
_SUFFIXES = {column: suffix for suffix, column in MEDIA.items()}


def export_loose(clips: Clips, folder: Path, *, progress: Callable[[int], object] = lambda _: None) -> int:
    """Writes every clip's two files into a new folder, and the index last.

    Args:
        clips: where they come from.
        folder: must not exist, or be empty.
        progress: told the clips written so far.

    Returns:
        The number of clips.

    Raises:
        FileExistsError: the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds something already: give a new folder for the files")
    folder.mkdir(parents=True, exist_ok=True)
    rows = clips.rows(_COLUMNS)
    for index, row in enumerate(rows):
        ((video, audio),) = clips.read_media([index])
        (folder / f"{row['clip_id']}.mp4").write_bytes(video)
        (folder / f"{row['clip_id']}.flac").write_bytes(audio)
        progress(index + 1)
    (folder / LOOSE_INDEX).write_text(json.dumps(rows, ensure_ascii=False))
    return len(rows)


@dataclass(frozen=True)
class LooseClips(ClipByClip):
    """The clips of a folder that `export_loose` wrote; safe to use from several threads."""

    folder: Path
    version: int
    """Checksum of the index."""
    _rows: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> LooseClips:
        """Reads the index.

        Raises:
            FileNotFoundError: there is no index, or a file it names is missing.
        """
        if not (folder / LOOSE_INDEX).is_file():
            raise FileNotFoundError(f"{folder} has no {LOOSE_INDEX}: expected a folder of loose clips")
        text = (folder / LOOSE_INDEX).read_bytes()
        rows = json.loads(text)
        present = {path.name for path in folder.iterdir()}
        for row in rows:
            for suffix in MEDIA:
                if (name := f"{row['clip_id']}.{suffix}") not in present:
                    raise FileNotFoundError(f"{folder}: {name} is missing, {LOOSE_INDEX} names it")
        return cls(folder, zlib.crc32(text), rows)

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def rows(
        self, columns: Sequence[str] = ("clip_id", "identity", "split", "num_frames")
    ) -> list[dict[str, Any]]:
        """Columns of all clips, as `ClipTable.rows`, but for faces and quality."""
        for name in columns:
            if name not in _COLUMNS:
                raise ValueError(f"column {name!r} cannot be read here; known: {', '.join(_COLUMNS)}")
        return [{name: row[name] for name in columns} for row in self._rows]

    def _read(self, column: str, index: int) -> bytes:
        return (self.folder / f"{self._rows[index]['clip_id']}.{_SUFFIXES[column]}").read_bytes()

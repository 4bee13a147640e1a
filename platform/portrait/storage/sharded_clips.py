"""Clips straight from WebDataset shards in a folder, with random access: a trainer needs no table for them.

A tar file's headers say where each member's bytes lie, so a clip is one read at a known place. The headers are read
once, when the shards are opened.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portrait.storage.clip_by_clip import ClipByClip
from portrait.storage.shards import INDEX, MEDIA, row_of

_LARGE = frozenset((*MEDIA.values(), "face_boxes"))
"""Columns that are not kept in memory: a hundred thousand clips must fit."""


@dataclass(frozen=True)
class _Place:
    """Where a clip's media lie."""

    shard: Path
    spans: dict[str, tuple[int, int]]
    """First byte and length of `video` and `audio`."""


@dataclass(frozen=True)
class ShardedClips(ClipByClip):
    """The clips of a folder of shards, in the shards' order; safe to use from several threads."""

    folder: Path
    version: int
    """Checksum of the index, which holds one of all clips: other shards have another one."""
    _rows: list[dict[str, Any]] = field(repr=False)
    _places: list[_Place] = field(repr=False)

    @classmethod
    def open(cls, folder: Path, version: int | None = None) -> ShardedClips:
        """Reads the headers of all shards.

        Raises:
            FileNotFoundError: the folder holds other shards than those of `version`.
            ValueError: a shard is damaged or missing, or a sample is no clip.
        """
        text = (folder / INDEX).read_bytes()
        found = zlib.crc32(text)
        if version not in (None, found):
            raise FileNotFoundError(f"{folder} holds version {found} of its shards, not {version}")
        index = json.loads(text)
        rows: list[dict[str, Any]] = []
        places: list[_Place] = []
        for name in index["shards"]:
            if not (folder / name).is_file():
                raise ValueError(f"{folder}: {name} is missing, {INDEX} names {len(index['shards'])} shards")
            for row, place in _clips_of(folder / name):
                rows.append(row)
                places.append(place)
        if len(rows) != index["clips"]:
            raise ValueError(f"{folder}: {len(rows)} clips found, {INDEX} promises {index['clips']}")
        return cls(folder, found, rows, places)

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    def rows(
        self, columns: Sequence[str] = ("clip_id", "identity", "split", "num_frames")
    ) -> list[dict[str, Any]]:
        """Columns of all clips, but for `face_boxes` as `ClipTable.rows`."""
        for name in columns:
            if self._rows and name not in self._rows[0]:
                raise ValueError(f"column {name!r} cannot be read here; known: {', '.join(self._rows[0])}")
        return [{name: row[name] for name in columns} for row in self._rows]

    def _read(self, column: str, index: int) -> bytes:
        place = self._places[index]
        start, length = place.spans[column]
        with place.shard.open("rb") as file:
            file.seek(start)
            return file.read(length)


def _clips_of(shard: Path) -> list[tuple[dict[str, Any], _Place]]:
    """Rows without their media, and where these lie, of a shard's samples in order."""
    samples: dict[str, dict[str, Any]] = {}
    spans: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                sample = samples.setdefault(key, {"__key__": key, "__url__": str(shard)})
                if suffix in MEDIA:
                    sample[suffix] = b""
                    spans.setdefault(key, {})[MEDIA[suffix]] = (member.offset_data, member.size)
                elif suffix == "json":
                    file = tar.extractfile(member)
                    sample["json"] = b"" if file is None else file.read()
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{shard} is damaged: {error}") from error
    size = shard.stat().st_size
    for key, found in spans.items():
        if any(start + length > size for start, length in found.values()):
            raise ValueError(f"{shard} is damaged: it ends within sample {key!r}")
    clips = []
    for key, sample in samples.items():
        row = row_of(sample)
        clips.append(({k: v for k, v in row.items() if k not in _LARGE}, _Place(shard, spans[key])))
    return clips

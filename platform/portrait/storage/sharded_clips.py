"""Random access to clips in a folder of WebDataset shards, so that training on them needs no table.

The headers of a tar file say where each member's bytes are. They are read once, when the shards are opened; a clip is
then one read at a known offset.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portrait.storage.clips import DEFAULT_COLUMNS, Clips
from portrait.storage.shards import INDEX, MEDIA, row_of

_LARGE = frozenset((*MEDIA.values(), "face_boxes"))
"""Columns that are not kept in memory, so that a hundred thousand clips fit."""


@dataclass(frozen=True)
class _Place:
    """Where the media of a clip are."""

    shard: Path
    spans: dict[str, tuple[int, int]]
    """Offset and length in bytes of `video` and `audio`."""

    def read(self, column: str) -> bytes:
        """The bytes of `video` or `audio`."""
        start, length = self.spans[column]
        with self.shard.open("rb") as file:
            file.seek(start)
            return file.read(length)


@dataclass(frozen=True)
class ShardedClips(Clips):
    """The clips of a folder of shards, in the order of the shards; safe to use from several threads."""

    folder: Path
    _version: int
    _rows: list[dict[str, Any]] = field(repr=False)
    _places: list[_Place] = field(repr=False)

    @classmethod
    def open(cls, folder: Path, version: int | None = None) -> ShardedClips:
        """Reads the headers of all shards.

        Raises:
            FileNotFoundError: the folder holds another version.
            ValueError: a shard is damaged or missing, or a sample is not a clip.
        """
        text = (folder / INDEX).read_bytes()
        found = zlib.crc32(text)
        if version not in (None, found):
            raise FileNotFoundError(
                f"{folder}: expected version {version} of the shards, found version {found}"
            )
        index = json.loads(text)
        rows: list[dict[str, Any]] = []
        places: list[_Place] = []
        for name in index["shards"]:
            if not (folder / name).is_file():
                raise ValueError(
                    f"{folder}: shard {name} is missing ({INDEX} lists {len(index['shards'])} shards)"
                )
            for row, place in _clips_of(folder / name):
                rows.append(row)
                places.append(place)
        if len(rows) != index["clips"]:
            raise ValueError(
                f"{folder}: expected {index['clips']} clips according to {INDEX}, found {len(rows)}"
            )
        return cls(folder, found, rows, places)

    @property
    def num_rows(self) -> int:
        return len(self._rows)

    @property
    def version(self) -> int:
        """Checksum of the index, which in turn holds a checksum of all clips."""
        return self._version

    def rows(self, columns: Sequence[str] = DEFAULT_COLUMNS) -> list[dict[str, Any]]:
        """See `Clips.rows`; `face_boxes` cannot be read."""
        for name in columns:
            if self._rows and name not in self._rows[0]:
                raise ValueError(
                    f"column {name!r} cannot be read here; expected one of {', '.join(self._rows[0])}"
                )
        return [{name: row[name] for name in columns} for row in self._rows]

    def _read(self, column: str, indices: Sequence[int]) -> list[bytes]:
        return [self._places[int(index)].read(column) for index in indices]


def _clips_of(shard: Path) -> list[tuple[dict[str, Any], _Place]]:
    """The rows of a shard's samples in order, without their media, and where these are."""
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

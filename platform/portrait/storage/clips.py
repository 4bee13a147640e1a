"""The `clips` table: one row a clip of a talking head, its H.264 and FLAC bytes as blobs (design: "Tables").

Shapes: T frames of a clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import lance
import pyarrow as pa

from portrait.storage import fragments
from portrait.storage.local_blobs import LocalBlobs, is_local

SPLITS = ("train", "val", "test")

CLIPS_SCHEMA = pa.schema(
    [
        pa.field(
            "clip_id", pa.string(), nullable=False
        ),  # hash of the footage, the time range and the settings
        pa.field("source", pa.string(), nullable=False),  # name of the collection it came from
        pa.field("identity", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train, val or test; by identity
        lance.blob_field("video"),  # H.264 MP4 of the portrait crop, a key frame every 16 frames
        lance.blob_field("audio"),  # FLAC, 16 kHz mono, 640 samples a frame
        pa.field("num_frames", pa.int32(), nullable=False),  # T = 1 + a multiple of 4
        pa.field("fps", pa.float32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("crop_box", pa.list_(pa.float32(), 3)),  # x0, y0, side in pixels of the footage
        pa.field(
            "face_boxes", pa.list_(pa.list_(pa.float32(), 4))
        ),  # T × (x, y, w, h) in pixels of the stored video
        pa.field(
            "sharpness", pa.float32()
        ),  # variance of the Laplacian of the stored face, grey levels 0 … 255
        pa.field("motion", pa.float32()),  # mean absolute difference of neighbouring frames, grey levels
        pa.field("face_size", pa.float32()),  # median width of the face in pixels of the footage
        pa.field("face_found", pa.float32()),  # share of the examined frames with a face
        pa.field("speech_ratio", pa.float32()),  # share of the time in which someone speaks
        pa.field("sync_confidence", pa.float32()),  # SyncNet's; null where none was given
        pa.field(
            "sync_offset", pa.float32()
        ),  # frames by which the lips were late in the footage; null as above
        pa.field(
            "provenance",
            pa.struct(
                [
                    pa.field("path", pa.string()),
                    pa.field("content", pa.string()),  # SHA-256 of the file
                    pa.field("start_s", pa.float64()),
                    pa.field("end_s", pa.float64()),
                    pa.field("licence", pa.string()),
                ]
            ),
        ),
        pa.field("brightness", pa.float32()),  # mean level of the stored face, 0 … 255
        pa.field("other_faces", pa.float32()),  # share of the examined frames with another lasting face
    ]
)
LATER_COLUMNS = ("brightness", "other_faces")
"""Columns that tables of earlier versions do not have: they read as null there, until the table grows."""
RENAMED_COLUMNS = {"rivals": "other_faces"}
"""Old name → name of columns that were renamed: read under the new name, and renamed when the table grows."""
GROUP_OF_PICTURES = 16
"""Frames from one key frame to the next in the stored videos: short groups make random windows cheap to decode."""
_BLOBS = ("video", "audio")
_LOOKING_UP = Lock()
"""Several readers that begin together look up a column's blobs once."""
_COLUMNS = tuple(name for name in CLIPS_SCHEMA.names if name not in _BLOBS)


def to_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows (a mapping each, with every column of the schema) as a record batch."""
    arrays = []
    for field in CLIPS_SCHEMA:
        values = [row[field.name] for row in rows]
        arrays.append(lance.blob_array(values) if field.name in _BLOBS else pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=CLIPS_SCHEMA)


def write_clips(uri: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Writes rows one by one as uncommitted fragments (JSON); see `fragments.commit`."""
    return fragments.write_fragments(uri, CLIPS_SCHEMA, (to_batch([row]) for row in rows))


def upgrade_columns(uri: str) -> None:
    """Gives a table of an earlier version the current columns so that it can grow; old rows hold nulls there."""
    dataset = lance.dataset(uri)
    renamed = {old: new for old, new in RENAMED_COLUMNS.items() if old in dataset.schema.names}
    if renamed:
        dataset.alter_columns(*({"path": old, "name": new} for old, new in renamed.items()))
    fragments.add_missing_columns(uri, CLIPS_SCHEMA)


def commit_clips(uri: str, written: list[str]) -> ClipTable:
    """Makes fragments that `write_clips` returned part of the table."""
    return ClipTable(fragments.commit(uri, CLIPS_SCHEMA, written))


@dataclass(frozen=True)
class ClipTable:
    """A version of the clips table, open for reading; safe to use from several threads."""

    dataset: lance.LanceDataset

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> ClipTable:
        """Opens the table at a folder or URI.

        Raises:
            FileNotFoundError: there is no table, or not in that version.
            ValueError: what is there is no clips table.
        """
        dataset = fragments.open_dataset(str(uri), "clips", version)
        missing = [name for name in CLIPS_SCHEMA.names if name not in dataset.schema.names]
        if set(missing) - set(LATER_COLUMNS):
            raise ValueError(f"{uri} is not a clips table: column {missing[0]!r} is missing")
        return cls(dataset)

    @property
    def num_rows(self) -> int:
        return self.dataset.count_rows()

    @property
    def version(self) -> int:
        """Lance's version number: log it with what was trained on it."""
        return self.dataset.version

    def rows(
        self, columns: Sequence[str] = ("clip_id", "identity", "split", "num_frames")
    ) -> list[dict[str, Any]]:
        """Columns of all rows in the table's order (the position in the list is the index `read_media` takes).

        Raises:
            ValueError: a column is unknown, or holds media.
        """
        for name in columns:
            if name not in _COLUMNS:
                raise ValueError(f"column {name!r} cannot be read here; known: {', '.join(_COLUMNS)}")
        old_names = {new: old for old, new in RENAMED_COLUMNS.items() if old in self.dataset.schema.names}
        stored = [old_names.get(name, name) for name in columns]
        rows = fragments.read_columns(self.dataset, stored)
        return [dict(zip(columns, row.values(), strict=True)) for row in rows]

    def read_video(self, indices: Sequence[int]) -> list[bytes]:
        """H.264 MP4 bytes of rows, in the order of the indices."""
        return self._read("video", indices)

    def read_audio(self, indices: Sequence[int]) -> list[bytes]:
        """FLAC bytes of rows, in the order of the indices."""
        return self._read("audio", indices)

    def read_media(self, indices: Sequence[int]) -> list[tuple[bytes, bytes]]:
        """(video, audio) bytes of rows, in the order of the indices."""
        return list(zip(self.read_video(indices), self.read_audio(indices), strict=True))

    @cached_property
    def _local(self) -> dict[str, LocalBlobs]:
        """Of the columns that were read, where their blobs lie; empty for a table elsewhere."""
        return {}

    def _read(self, column: str, indices: Sequence[int]) -> list[bytes]:
        with _LOOKING_UP:
            if column not in self._local and is_local(self.dataset):
                self._local[column] = LocalBlobs(self.dataset, column)
        local = self._local.get(column)
        found = [local.read(int(i)) if local else None for i in indices]
        absent = [int(i) for i, data in zip(indices, found, strict=True) if data is None]
        if absent:
            blobs = iter(self.dataset.read_blobs(column, indices=absent, preserve_order=True))
            found = [next(blobs)[1] if data is None else data for data in found]
        return [data or b"" for data in found]

"""The `clips` table: one row per clip of a talking head, with its H.264 and FLAC bytes as blobs.

`T` is the number of frames of a clip.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lance
import pyarrow as pa

from portrait.storage import fragments

SPLITS = ("train", "val", "test")

CLIPS_SCHEMA = pa.schema(
    [
        # Hash of the footage, the time range and the settings.
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # name of the collection it came from
        pa.field("identity", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train, val or test; by identity
        lance.blob_field("video"),  # H.264 MP4 of the portrait crop, a key frame every 16 frames
        lance.blob_field("audio"),  # FLAC, 16 kHz mono, 640 samples per frame
        pa.field("num_frames", pa.int32(), nullable=False),  # T = 1 + a multiple of 4
        pa.field("fps", pa.float32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("crop_box", pa.list_(pa.float32(), 3)),  # x0, y0, side in pixels of the footage
        # T × (x, y, w, h) in pixels of the stored video.
        pa.field("face_boxes", pa.list_(pa.list_(pa.float32(), 4))),
        # Variance of the Laplacian of the stored face, grey levels 0 … 255.
        pa.field("sharpness", pa.float32()),
        pa.field("motion", pa.float32()),  # mean absolute difference of neighbouring frames, grey levels
        pa.field("face_size", pa.float32()),  # median width of the face in pixels of the footage
        pa.field("face_found", pa.float32()),  # share of the examined frames with a face
        pa.field("speech_ratio", pa.float32()),  # share of the time in which someone speaks
        pa.field("sync_confidence", pa.float32()),  # SyncNet's; null if not measured
        # Frames by which the lips were late in the footage; null if not measured.
        pa.field("sync_offset", pa.float32()),
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
"""Columns that tables of earlier versions lack; they are read as null."""
RENAMED_COLUMNS = {"rivals": "other_faces"}
"""Old name → name of columns that were renamed; they are read under the new name, and renamed when rows are added."""
GROUP_OF_PICTURES = 16
"""Frames from one key frame to the next in the stored videos; short groups make random windows cheap to decode."""
_BLOBS = ("video", "audio")
_COLUMNS = tuple(name for name in CLIPS_SCHEMA.names if name not in _BLOBS)
DEFAULT_COLUMNS = ("clip_id", "identity", "split", "num_frames")


def to_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows as a record batch; each is a mapping with every column of the schema."""
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
        alterations: list[Any] = [{"path": old, "name": new} for old, new in renamed.items()]
        dataset.alter_columns(*alterations)  # Any: Lance's annotation is of an iterable per argument
    fragments.add_missing_columns(uri, CLIPS_SCHEMA)


def commit_clips(uri: str, written: list[str]) -> ClipTable:
    """Adds the fragments that `write_clips` returned to the table; see `fragments.commit`."""
    return ClipTable(fragments.commit(uri, CLIPS_SCHEMA, written))


class Clips(ABC):
    """A collection of clips that can be read at random: what readers need of a table, or of a folder of shards."""

    @property
    @abstractmethod
    def num_rows(self) -> int: ...

    @property
    @abstractmethod
    def version(self) -> int:
        """Changes with the content: log it with what was trained on the clips."""

    @abstractmethod
    def rows(self, columns: Sequence[str] = DEFAULT_COLUMNS) -> list[dict[str, Any]]:
        """Columns of all clips; the position in the list is the index that `read_video` takes.

        Raises:
            ValueError: a column is unknown, or cannot be read as a column.
        """

    @abstractmethod
    def _read(self, column: str, indices: Sequence[int]) -> list[bytes]:
        """The column `video` or `audio` of clips, in the order of the indices."""

    def read_video(self, indices: Sequence[int]) -> list[bytes]:
        """H.264 MP4 bytes of clips, in the order of the indices."""
        return self._read("video", indices)

    def read_audio(self, indices: Sequence[int]) -> list[bytes]:
        """FLAC bytes of clips, in the order of the indices."""
        return self._read("audio", indices)

    def read_media(self, indices: Sequence[int]) -> list[tuple[bytes, bytes]]:
        """(video, audio) bytes of clips, in the order of the indices."""
        return list(zip(self.read_video(indices), self.read_audio(indices), strict=True))


@dataclass(frozen=True)
class ClipTable(Clips):
    """A version of the clips table, open for reading; safe to use from several threads."""

    dataset: lance.LanceDataset

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> ClipTable:
        """Opens the table at a folder or URI.

        Raises:
            FileNotFoundError: there is no table, or not in this version.
            ValueError: it is another table, damaged, or cannot be reached.
        """
        required = (name for name in CLIPS_SCHEMA.names if name not in LATER_COLUMNS)
        return cls(fragments.open_dataset(str(uri), "clips", required, version))

    @property
    def num_rows(self) -> int:
        return self.dataset.count_rows()

    @property
    def version(self) -> int:
        """Lance's version number."""
        return self.dataset.version

    def rows(self, columns: Sequence[str] = DEFAULT_COLUMNS) -> list[dict[str, Any]]:
        """See `Clips.rows`."""
        for name in columns:
            if name not in _COLUMNS:
                raise ValueError(
                    f"column {name!r} cannot be read here; expected one of {', '.join(_COLUMNS)}"
                )
        old_names = {new: old for old, new in RENAMED_COLUMNS.items() if old in self.dataset.schema.names}
        stored = [old_names.get(name, name) for name in columns]
        rows = fragments.read_columns(self.dataset, stored)
        return [dict(zip(columns, row.values(), strict=True)) for row in rows]

    def _read(self, column: str, indices: Sequence[int]) -> list[bytes]:
        blobs = self.dataset.read_blobs(column, indices=[int(i) for i in indices], preserve_order=True)
        return [data or b"" for _, data in blobs]

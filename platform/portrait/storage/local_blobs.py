"""Blobs of a table on a local disk, read from the files that Lance keeps them in.

Lance plans a query for every batch of blobs, which takes several times as long as reading them. A blob's descriptor
says where its bytes lie; a column's are read once here. Which file is meant is Lance's own affair and has changed
between its versions: the first blob of every kind is therefore read through Lance too, and where the bytes differ, or a
file is not there, reading is left to Lance.
"""

from __future__ import annotations

import os
from functools import lru_cache
from io import FileIO
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_OPEN_FILES = 128
"""Files that a column keeps open: a large table has more of them than a process may open."""
_INLINE, _PACKED, _DEDICATED = range(3)
"""Where a blob is, by its descriptor: in the data file, in a file beside it with others, in one of its own."""
_NOT_HERE = -1


def is_local(dataset: lance.LanceDataset) -> bool:
    """Whether a table lies on a disk of this machine."""
    return "://" not in dataset.uri


class LocalBlobs:
    """The blobs of one column of a local table; safe to use from several threads."""

    def __init__(self, dataset: lance.LanceDataset, column: str) -> None:
        """Reads the descriptors, of which 20 bytes a row stay in memory.

        Args:
            dataset: a version of a local table.
            column: a blob column of the second version.
        """
        self._dataset, self._column = dataset, column
        table = dataset.scanner(columns=[column], with_row_address=True).to_table()
        descriptors = table[column].combine_chunks()
        self._positions = _integers(descriptors.field("position"))
        self._sizes = _integers(descriptors.field("size"))
        kinds = _integers(descriptors.field("kind"))
        fragments = _integers(table["_rowaddr"].combine_chunks()) >> 32
        names = np.stack([fragments, kinds, _integers(descriptors.field("blob_id"))])
        files, numbers = np.unique(names, axis=1, return_inverse=True)
        data_files = _data_files(dataset, column)
        self._paths = [
            _path(data_files.get(int(fragment)), kind, blob_id) for fragment, kind, blob_id in files.T
        ]
        here = descriptors.is_valid().to_numpy(zero_copy_only=False)
        numbers = numbers.reshape(-1)
        here &= np.array([path is not None for path in self._paths], bool)[numbers]
        self._file_of = np.where(here, numbers, _NOT_HERE).astype(np.int32)
        # Of a function that knows nothing of this object: the files close as soon as it is dropped.
        self._open = lru_cache(MAX_OPEN_FILES)(FileIO)
        self._compare(kinds)

    def _compare(self, kinds: np.ndarray) -> None:
        """Leaves every kind of blob to Lance of which the first is another one by Lance."""
        here = self._file_of != _NOT_HERE
        firsts = [int(np.argmax(here & (kinds == kind))) for kind in np.unique(kinds[here])]
        if not firsts:
            return
        by_lance = self._dataset.read_blobs(self._column, indices=firsts, preserve_order=True)
        for first, (_, data) in zip(firsts, by_lance, strict=True):
            if self.read(first) != data:
                self._file_of[kinds == kinds[first]] = _NOT_HERE

    def __reduce__(self) -> tuple[type[LocalBlobs], tuple[lance.LanceDataset, str]]:
        """Open files don't travel to other processes."""
        return LocalBlobs, (self._dataset, self._column)

    def read(self, index: int) -> bytes | None:
        """The bytes of a row's blob; None where only Lance can read it."""
        number = int(self._file_of[index])
        if number == _NOT_HERE:
            return None
        path, size = self._paths[number], int(self._sizes[index])
        assert path is not None  # else its rows are not here
        try:
            # The file stays open for as long as this name holds it, even if others push it out of the cache.
            file = self._open(path)
            data = os.pread(file.fileno(), size, int(self._positions[index]))
        except FileNotFoundError:
            self._file_of[self._file_of == number] = _NOT_HERE
            return None
        except OSError:  # Lance may read it, or says what is wrong
            return None
        return data if len(data) == size else None


def _integers(values: pa.Array) -> np.ndarray:
    """int64, 0 where there is none."""
    return pc.fill_null(values, 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _data_files(dataset: lance.LanceDataset, column: str) -> dict[int, Path]:
    """The local file with a column's descriptors, by its fragment's number."""
    (field,) = (field.id() for field in dataset.lance_schema.fields() if field.name() == column)
    folder = Path(dataset.uri).absolute() / "data"
    return {
        fragment.fragment_id: folder / file.path
        for fragment in dataset.get_fragments()
        for file in fragment.data_files()
        if field in file.fields and file.base_id is None
    }


def _path(data_file: Path | None, kind: int, blob_id: int) -> Path | None:
    """The file that holds the blobs of a descriptor's kind and number, as Lance 14 names it."""
    if data_file is None or kind == _INLINE:
        return data_file
    if kind in (_PACKED, _DEDICATED):
        # The number's 32 bits, the lowest first: names that differ early spread over an object store's servers.
        bits = f"{blob_id:032b}"[::-1]
        return data_file.with_suffix("") / f"{bits}.blob"
    return None

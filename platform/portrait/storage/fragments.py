"""Writing Lance tables: fragments from many processes, then one commit that makes them all visible at once.

With a single commit at the end, a run that fails leaves the table unchanged. Fragments travel as JSON from processes
that write them to the one that commits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance.fragment import write_fragments as lance_write_fragments

FILE_FORMAT = "2.2"
"""Lance file format: the first with blob columns of version 2, and the newest stable one."""
MAX_ROWS_PER_FILE = 4096
"""Rows per data file; Lance's default would put a million clips in one."""


def open_dataset(
    uri: str, kind: str, required: Iterable[str], version: int | None = None
) -> lance.LanceDataset:
    """Opens a table.

    Args:
        uri: a folder or an object store's URI.
        kind: kind of table expected there, for error messages.
        required: columns that every table of this kind has.
        version: an older version of the table; None for the latest.

    Raises:
        FileNotFoundError: there is no table, or not in this version.
        ValueError: it is another table, damaged, or cannot be reached.
    """
    try:
        dataset = lance.dataset(uri, version=version)
    except ValueError as error:
        _raise_unless_missing(uri, error)
        wanted = f" in version {version}" if version is not None else ""
        raise FileNotFoundError(f"no {kind} table at {uri}{wanted}") from error
    missing = [name for name in required if name not in dataset.schema.names]
    if missing:
        raise ValueError(f"{uri} is not a {kind} table: column {missing[0]!r} is missing")
    return dataset


def exists(uri: str) -> bool:
    """Whether there is a committed table.

    Raises:
        ValueError: the place cannot be reached, or the table is damaged. If that were taken for "no table", the next
            commit would replace it.
    """
    try:
        lance.dataset(uri)
    except ValueError as error:
        _raise_unless_missing(uri, error)
        return False
    return True


_SOURCE_PLACE = re.compile(r",? ?/[^ ]*\.rs:[0-9]+.*")
"""Where in Lance's own sources an error arose: of no use to a user."""


def _raise_unless_missing(uri: str, error: ValueError) -> None:
    """Lance raises the same type of error for a missing table and for everything else."""
    words = _SOURCE_PLACE.sub("", " ".join(str(error).split()))
    if "was not found: Not found:" not in words:
        raise ValueError(
            f"{uri}: the table cannot be opened, it is damaged or cannot be reached: {words}"
        ) from error


_LANCE_FOLDERS = frozenset(("data", "_versions", "_transactions", "_deletions", "_indices", "_refs"))


def check_target(uri: str) -> None:
    """Makes sure that a table can be written here.

    Raises:
        ValueError: it is a local folder that is not a table and holds files that are not Lance's.
    """
    folder = Path(uri)
    if "://" in uri or not folder.is_dir() or exists(uri):
        return
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _LANCE_FOLDERS)
    if foreign:
        raise ValueError(
            f"{uri} holds {foreign[0]!r}, which is not part of a table: choose another folder for the table"
        )


def write_fragments(uri: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> list[str]:
    """Writes rows as fragments, which stay invisible until `commit`; batches are consumed one by one.

    Returns:
        The fragments as JSON.

    Raises:
        OSError: the target cannot be written.
    """
    reader = pa.RecordBatchReader.from_batches(schema, batches)
    written = lance_write_fragments(
        reader,
        uri,
        schema=schema,
        mode="append" if exists(uri) else "create",
        max_rows_per_file=MAX_ROWS_PER_FILE,
        data_storage_version=FILE_FORMAT,
    )
    return [json.dumps(fragment.to_json()) for fragment in written]


def commit(uri: str, schema: pa.Schema, fragments: list[str]) -> lance.LanceDataset:
    """Adds fragments to the table in one step; the first commit creates the table."""
    metadata = [lance.FragmentMetadata.from_json(fragment) for fragment in fragments]
    if not exists(uri):
        return lance.LanceDataset.commit(uri, lance.LanceOperation.Overwrite(schema, metadata))
    dataset = lance.dataset(uri)
    return lance.LanceDataset.commit(uri, lance.LanceOperation.Append(metadata), read_version=dataset.version)


def add_missing_columns(uri: str, schema: pa.Schema) -> None:
    """Adds the columns that a table of an earlier version lacks, so that rows can be added; existing rows get nulls."""
    dataset = lance.dataset(uri)
    missing = [field for field in schema if field.name not in dataset.schema.names]
    if missing:
        dataset.add_columns(pa.schema(missing))


def read_columns(dataset: lance.LanceDataset, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of all rows in the table's order; a column that the table lacks is null."""
    stored = [name for name in columns if name in dataset.schema.names]
    rows = dataset.to_table(columns=stored or dataset.schema.names[:1]).to_pylist()
    return [{name: row.get(name) for name in columns} for row in rows]


def remove_unreferenced(dataset: lance.LanceDataset) -> None:
    """Deletes data files that belong to no version, which a killed writer leaves; no other writer may be running."""
    dataset.cleanup_old_versions(older_than=timedelta(days=36_500), delete_unverified=True)

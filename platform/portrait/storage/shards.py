"""Lossless export of the `clips` table to WebDataset shards, for machines without Lance, and import from them.

A sample is `CLIP_ID.mp4` (H.264), `CLIP_ID.flac` and `CLIP_ID.json` with every other column. `index.json` next to the
shards lists them, with a checksum of the content and the table's metadata.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import webdataset

from portrait.storage import fragments
from portrait.storage.clips import (
    CLIPS_SCHEMA,
    LATER_COLUMNS,
    RENAMED_COLUMNS,
    ClipTable,
    to_batch,
    upgrade_columns,
)

INDEX = "index.json"
_PATTERN = "clips-%06d.tar"
MEDIA = {"mp4": "video", "flac": "audio"}
"""Suffix of a sample's file → column of the table."""
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The result of an import."""

    added: int
    """Clips added to the table."""
    known: int
    """Clips that were in the table before, or twice in the shards."""
    table: ClipTable
    """The table after the import."""


def export_shards(
    table: ClipTable,
    folder: Path,
    *,
    shard_bytes: int = 256 * 1024**2,
    splits: tuple[str, ...] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Writes the clips of a table as shards to a new folder, which appears only when it is complete.

    Args:
        table: the clips.
        folder: must not exist, or be empty.
        shard_bytes: a shard ends with the first clip that exceeds this size.
        splits: splits to export; None for all.
        progress: called with the number of clips written so far.

    Returns:
        The number of clips.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: there is no clip to export.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose a new folder for the shards")
    columns = [name for name in CLIPS_SCHEMA.names if name not in MEDIA.values()]
    rows = table.rows(columns)
    chosen = [index for index, row in enumerate(rows) if splits is None or row["split"] in splits]
    if not chosen:
        raise ValueError(f"there is no clip to export (splits: {', '.join(splits or ('all',))})")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    content = hashlib.sha256()
    try:
        with webdataset.ShardWriter(
            str(part / _PATTERN), maxcount=10**9, maxsize=shard_bytes, verbose=0
        ) as writer:
            for written, sample in enumerate(_samples(table, rows, chosen), 1):
                for suffix in ("json", *MEDIA):
                    content.update(sample[suffix])
                writer.write(sample)
                progress(written)
        index = {
            "clips": len(chosen),
            "shards": sorted(path.name for path in part.glob("*.tar")),
            "metadata": _metadata(table),
            "content": content.hexdigest(),
        }
        (part / INDEX).write_text(json.dumps(index, indent=1))
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return len(chosen)


def _samples(table: ClipTable, rows: list[dict[str, Any]], chosen: list[int]) -> Iterator[dict[str, Any]]:
    """The chosen clips as WebDataset samples; `rows` are the other columns of all clips."""
    for start in range(0, len(chosen), _ROWS_AT_ONCE):
        indices = chosen[start : start + _ROWS_AT_ONCE]
        for index, (video, audio) in zip(indices, table.read_media(indices), strict=True):
            text = json.dumps(rows[index], ensure_ascii=False).encode()
            yield {"__key__": rows[index]["clip_id"], "mp4": video, "flac": audio, "json": text}


def import_shards(
    urls: str | Path, uri: str, *, progress: Callable[[int], object] = lambda _: None
) -> Imported:
    """Adds the clips of shards to a clips table in one commit; the table is created if it does not exist.

    Args:
        urls: a folder that `export_shards` wrote, or what WebDataset opens: a file or URL (http, https, any command
            with `pipe:`), with braces for many, as in `https://host/clips-{000000..000041}.tar`.
        uri: the table, a folder or URI.
        progress: called with the number of clips read so far.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: a sample is not a clip, a shard is damaged, or clips are missing; the table is unchanged.
    """
    index, names = _index(urls)
    fragments.check_target(uri)
    existing = ClipTable.open(uri) if fragments.exists(uri) else None
    rows = existing.rows(("clip_id", "identity", "split")) if existing is not None else []
    known, splits = {row["clip_id"] for row in rows}, {row["identity"]: row["split"] for row in rows}
    if existing is not None and index is not None:
        _check_metadata(uri, _metadata(existing), index["metadata"])
    before, counts = len(known), {"read": 0, "added": 0}

    content = hashlib.sha256()

    def batches() -> Iterator[pa.RecordBatch]:
        for sample in webdataset.WebDataset(names, shardshuffle=False, empty_check=False):
            counts["read"] += 1
            row = row_of(sample)
            for suffix in ("json", *MEDIA):
                content.update(sample[suffix])
            progress(counts["read"])
            if row["clip_id"] in known:
                continue
            split = splits.setdefault(row["identity"], row["split"])
            if split != row["split"]:
                raise ValueError(
                    f"identity {row['identity']!r} is in split {row['split']} in the shards, but in {split} elsewhere"
                )
            known.add(row["clip_id"])
            counts["added"] += 1
            yield to_batch([row])
        if index is not None and counts["read"] != index["clips"]:
            raise ValueError(
                f"{urls}: expected {index['clips']} clips according to {INDEX}, found {counts['read']}"
            )
        if index is not None and content.hexdigest() != index.get("content", content.hexdigest()):
            raise ValueError(f"{urls}: damaged, the content does not match the checksum in {INDEX}")

    if existing is not None:
        upgrade_columns(uri)
    written = _write(uri, batches())
    schema = CLIPS_SCHEMA.with_metadata(index["metadata"]) if index is not None else CLIPS_SCHEMA
    if counts["added"]:
        fragments.commit(uri, schema, written)
    elif not before:
        raise ValueError(f"{urls} holds no clip")
    return Imported(added=counts["added"], known=counts["read"] - counts["added"], table=ClipTable.open(uri))


def row_of(sample: dict[str, Any]) -> dict[str, Any]:
    """The table row of a sample.

    Raises:
        ValueError: the sample is not a clip; the message says what is missing.
    """
    where = f"{sample.get('__url__', '')}: sample {sample.get('__key__')!r}"
    missing = [name for name in ("json", *MEDIA) if name not in sample]
    if missing:
        raise ValueError(f"{where} has no .{missing[0]}, expected .mp4, .flac and .json")
    try:
        row = json.loads(sample["json"])
    except ValueError as error:
        raise ValueError(f"{where}: its .json is not valid JSON ({error})") from error
    row = {RENAMED_COLUMNS.get(name, name): value for name, value in row.items()}
    row = {**dict.fromkeys(LATER_COLUMNS), **row} | {
        column: sample[suffix] for suffix, column in MEDIA.items()
    }
    absent = [name for name in CLIPS_SCHEMA.names if name not in row]
    if absent:
        raise ValueError(f"{where}: {absent[0]!r} is missing in its .json")
    return row


def _index(urls: str | Path) -> tuple[dict[str, Any] | None, str | list[str]]:
    """The index, if there is one, and what WebDataset opens."""
    folder = Path(urls)
    if not folder.is_dir():
        is_pattern = any(mark in str(urls) for mark in ("://", "pipe:", "{"))
        if not is_pattern and not folder.is_file():
            raise FileNotFoundError(f"no shards at {urls}")
        return None, str(urls)
    names = sorted(str(path) for path in folder.glob("*.tar"))
    if not names:
        raise FileNotFoundError(f"{folder} holds no .tar shards")
    if not (folder / INDEX).is_file():
        return None, names
    index = json.loads((folder / INDEX).read_text())
    gone = [name for name in index["shards"] if not (folder / name).is_file()]
    if gone:
        raise ValueError(
            f"{folder}: shard {gone[0]} is missing ({INDEX} lists {len(index['shards'])} shards)"
        )
    return index, [str(folder / name) for name in index["shards"]]


def _metadata(table: ClipTable) -> dict[str, str]:
    """The table's metadata: the settings with which its clips were cut."""
    return {key.decode(): value.decode() for key, value in (table.dataset.schema.metadata or {}).items()}


def _check_metadata(uri: str, own: dict[str, str], theirs: dict[str, str]) -> None:
    for key in own.keys() & theirs.keys():
        if json.loads(own[key]) != json.loads(theirs[key]):
            raise ValueError(
                f"{uri} holds clips with another {key} than the shards: import the shards into another table"
            )


def _write(uri: str, batches: Iterator[pa.RecordBatch]) -> list[str]:
    """Writes uncommitted fragments; an error while reading `batches` is reported in its own words."""
    reasons: list[Exception] = []

    def watched() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except Exception as error:
            reasons.append(error)
            raise

    is_new = "://" not in uri and not Path(uri).exists()
    try:
        return fragments.write_fragments(uri, CLIPS_SCHEMA, watched())
    except OSError as error:
        # An existing folder may hold fragments of another run that are not committed yet: leave it alone.
        if is_new:
            shutil.rmtree(uri, ignore_errors=True)
        cause = reasons[0] if reasons else error
        words = "; ".join(
            word for word in cause.args if isinstance(word, str)
        )  # objects come along with them
        why = f"damaged archive ({words})" if isinstance(cause, tarfile.TarError) else words
        raise ValueError(f"nothing was imported: {why}") from cause

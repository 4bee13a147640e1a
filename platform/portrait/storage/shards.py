"""The `clips` table as WebDataset shards, for trainers and machines without Lance, and back, without loss.

A sample is `CLIP_ID.mp4` (H.264), `CLIP_ID.flac` and `CLIP_ID.json` with every other column. `index.json` beside the
shards counts them and keeps the table's own metadata.
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
"""Media of a sample, by suffix: their columns in the table."""
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did."""

    added: int
    """Clips that are new in the table."""
    known: int
    """Clips that were there before, or stood twice in the shards."""
    table: ClipTable
    """The table after it."""


def export_shards(
    table: ClipTable,
    folder: Path,
    *,
    shard_bytes: int = 256 * 1024**2,
    splits: tuple[str, ...] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Writes a table's clips as shards into a new folder, which comes to be whole or not at all.

    Args:
        table: the clips.
        folder: must not exist, or be empty.
        shard_bytes: a shard ends at the first clip beyond this.
        splits: only clips of these; None for all.
        progress: told the clips written so far.

    Returns:
        The number of clips.

    Raises:
        FileExistsError: the folder holds something.
        ValueError: there is no clip to write.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds something already: give a new folder for the shards")
    columns = [name for name in CLIPS_SCHEMA.names if name not in MEDIA.values()]
    rows = table.rows(columns)
    chosen = [index for index, row in enumerate(rows) if splits is None or row["split"] in splits]
    if not chosen:
        raise ValueError(f"no clip to export (splits {', '.join(splits or ('all',))})")
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    content = hashlib.sha256()
    try:
        with webdataset.ShardWriter(
            str(part / _PATTERN), maxcount=10**9, maxsize=shard_bytes, verbose=0
        ) as writer:
            for start in range(0, len(chosen), _ROWS_AT_ONCE):
                indices = chosen[start : start + _ROWS_AT_ONCE]
                for index, (video, audio) in zip(indices, table.read_media(indices), strict=True):
                    row = rows[index]
                    text = json.dumps(row, ensure_ascii=False).encode()
                    for part_of_clip in (text, video, audio):
                        content.update(part_of_clip)
                    writer.write({"__key__": row["clip_id"], "mp4": video, "flac": audio, "json": text})
                progress(start + len(indices))
        shards = sorted(path.name for path in part.glob("*.tar"))
        index = {
            "clips": len(chosen),
            "shards": shards,
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


def import_shards(
    urls: str | Path, uri: str, *, progress: Callable[[int], object] = lambda _: None
) -> Imported:
    """Adds the clips of shards to a clips table, which is made where it is missing, in one commit.

    Args:
        urls: a folder that `export_shards` wrote, or what WebDataset opens: a file or URL (http, https, any command
            with `pipe:`), with braces for many, as in `https://host/clips-{000000..000041}.tar`.
        uri: the table, a folder or URI.
        progress: told the clips read so far.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: a sample is no clip, a shard is damaged or clips are missing; the table is as it was before.
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
                raise ValueError(f"{row['identity']} is in split {row['split']} here, elsewhere in {split}")
            known.add(row["clip_id"])
            counts["added"] += 1
            yield to_batch([row])
        if index is not None and counts["read"] != index["clips"]:
            raise ValueError(f"{urls}: {counts['read']} clips found, {INDEX} promises {index['clips']}")
        if index is not None and content.hexdigest() != index.get("content", content.hexdigest()):
            raise ValueError(f"{urls}: damaged, the clips are not those whose checksum is in {INDEX}")

    if existing is not None:
        upgrade_columns(uri)
    written = _write(uri, batches())
    schema = CLIPS_SCHEMA.with_metadata(index["metadata"]) if index is not None else CLIPS_SCHEMA
    if counts["added"]:
        fragments.commit(uri, schema, written)
    elif not before:
        raise ValueError(f"{urls}: no clip found")
    return Imported(added=counts["added"], known=counts["read"] - counts["added"], table=ClipTable.open(uri))


def row_of(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample's row of the table.

    Raises:
        ValueError: it is no clip; says what is missing.
    """
    where = f"{sample.get('__url__', '')}: sample {sample.get('__key__')!r}"
    missing = [name for name in ("json", *MEDIA) if name not in sample]
    if missing:
        raise ValueError(f"{where} has no .{missing[0]}, expected .mp4, .flac and .json")
    try:
        row = json.loads(sample["json"])
    except ValueError as error:
        raise ValueError(f"{where}: its .json is none ({error})") from error
    row = {RENAMED_COLUMNS.get(name, name): value for name, value in row.items()}
    row = dict.fromkeys(LATER_COLUMNS) | row | {column: sample[suffix] for suffix, column in MEDIA.items()}
    absent = [name for name in CLIPS_SCHEMA.names if name not in row]
    if absent:
        raise ValueError(f"{where}: its .json lacks {absent[0]!r}")
    return row


def _index(urls: str | Path) -> tuple[dict[str, Any] | None, str | list[str]]:
    """The index, where there is one, and what WebDataset is to open."""
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
        raise ValueError(f"{folder}: {gone[0]} is missing, {INDEX} names {len(index['shards'])} shards")
    return index, [str(folder / name) for name in index["shards"]]


def _metadata(table: ClipTable) -> dict[str, str]:
    """What the table keeps beside its rows: the settings its clips were cut with."""
    return {key.decode(): value.decode() for key, value in (table.dataset.schema.metadata or {}).items()}


def _check_metadata(uri: str, own: dict[str, str], theirs: dict[str, str]) -> None:
    for key in own.keys() & theirs.keys():
        if json.loads(own[key]) != json.loads(theirs[key]):
            raise ValueError(
                f"{uri} holds clips with other {key} than the shards: import them into another table"
            )


def _write(uri: str, batches: Iterator[pa.RecordBatch]) -> list[str]:
    """Uncommitted fragments; what goes wrong in reading keeps its own words."""
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
        # What a table's folder holds beside its versions may be another run's, not yet committed: that stays.
        if is_new:
            shutil.rmtree(uri, ignore_errors=True)
        cause = reasons[0] if reasons else error
        words = "; ".join(
            word for word in cause.args if isinstance(word, str)
        )  # objects come along with them
        why = f"damaged archive ({words})" if isinstance(cause, tarfile.TarError) else words
        raise ValueError(f"nothing was imported: {why}") from cause

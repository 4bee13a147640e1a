"""Hashes the content of every file over the cluster, so that no content is cut twice."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.data

from data_prep.progress import ProgressLine
from data_prep.rejects import Reject
from data_prep.sources.footage import Footage
from data_prep.stream_copies import merge_copies, payload_hash


def hash_files(
    files: Sequence[Footage], known: Collection[str] = ()
) -> tuple[list[tuple[Footage, str]], list[Reject]]:
    """Hashes the content of every file; files that cannot be read become rejects.

    Args:
        files: the footage of a source.
        known: hashes of content that need not be cut again.

    Returns:
        The readable files in their order, each with its hash, and the rejects. A stream copy of another file has the
        hash of that file.
    """
    # File names may be any bytes; tables and reports hold text only.
    nameable = [i for i, file in enumerate(files) if _is_text(file.label) and _is_text(file.identity)]
    sound = [i for i in nameable if files[i].problem is None]
    rejects = [
        Reject(
            path=os.fsencode(files[i].label).decode(errors="replace"),
            reason="the file name is not valid UTF-8; rename the file",
        )
        for i in sorted(set(range(len(files))) - set(nameable))
    ]
    rejects += [
        Reject(path=file.label, reason=file.problem, retry=True) for file in files if file.problem is not None
    ]
    hashed: dict[int, str] = {}
    payloads: dict[int, str] = {}
    rows = [{"index": i, **asdict(files[i])} for i in sound]
    with ProgressLine("reading files", total=len(rows), unit="file") as progress:
        for row in ray.data.from_items(rows).map(_hash_row).iter_rows() if rows else ():
            if row["error"]:
                rejects.append(Reject(path=files[row["index"]].label, reason=row["error"]))
            else:
                hashed[row["index"]], payloads[row["index"]] = row["content"], row["payload"]
            progress.advance()
    readable = sorted(hashed)
    contents = [(files[i], hashed[i]) for i in readable]
    return merge_copies(contents, [payloads[i] for i in readable], known), rejects


def footage_of(fields: dict[str, Any]) -> Footage:
    """Restores footage from a row of Ray Data; Arrow turns tuples into lists."""
    return Footage(**{**fields, "region": fields["region"] and tuple(fields["region"])})


def _hash_row(row: dict[str, Any]) -> dict[str, Any]:
    index = row.pop("index")
    try:
        footage = footage_of(row)
        return {
            "index": index,
            "content": _content(footage),
            "payload": payload_hash(footage),
            "error": "",
        }
    except OSError as error:
        return {
            "index": index,
            "content": "",
            "payload": "",
            "error": f"cannot be read: {error.strerror or error}",
        }


def _content(footage: Footage) -> str:
    # Opening a named pipe would block until something opens its other end.
    if footage.is_file and Path(footage.path).exists() and not Path(footage.path).is_file():
        raise OSError("not a regular file")
    return footage.content_hash()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

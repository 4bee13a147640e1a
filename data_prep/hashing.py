"""Which files a run has to do with: every file's content is hashed, over the cluster, so that nothing is done twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.data

from data_prep.progress import ProgressLine
from data_prep.rejects import Reject
from data_prep.sources import Footage


def hash_files(files: Sequence[Footage]) -> tuple[list[tuple[Footage, str]], list[Reject]]:
    """Content hash of every file, in the files' order; files that cannot be read become rejects."""
    # A name on a disk may be any bytes; tables and reports hold text only.
    nameable = [i for i, file in enumerate(files) if _is_text(file.label) and _is_text(file.identity)]
    sound = [i for i in nameable if files[i].problem is None]
    rejects = [
        Reject(
            path=os.fsencode(files[i].label).decode(errors="replace"),
            reason="its name is not UTF-8: rename it",
        )
        for i in sorted(set(range(len(files))) - set(nameable))
    ]
    rejects += [
        Reject(path=file.label, reason=file.problem, again=True) for file in files if file.problem is not None
    ]
    hashed: dict[int, str] = {}
    rows = [{"index": i, **asdict(files[i])} for i in sound]
    with ProgressLine("reading files", total=len(rows), unit="file") as progress:
        for row in ray.data.from_items(rows).map(_hash_row).iter_rows() if rows else ():
            if row["error"]:
                rejects.append(Reject(path=files[row["index"]].label, reason=row["error"]))
            else:
                hashed[row["index"]] = row["content"]
            progress.advance()
    return [(files[i], hashed[i]) for i in sorted(hashed)], rejects


def footage_of(fields: dict[str, Any]) -> Footage:
    """Footage that travelled as a row: Arrow makes lists of tuples."""
    return Footage(**{**fields, "region": fields["region"] and tuple(fields["region"])})


def _hash_row(row: dict[str, Any]) -> dict[str, Any]:
    index = row.pop("index")
    try:
        return {"index": index, "content": _content(footage_of(row)), "error": ""}
    except OSError as error:
        return {"index": index, "content": "", "error": f"cannot be read: {error.strerror or error}"}


def _content(footage: Footage) -> str:
    # Whoever opens a pipe waits for someone at its other end.
    if footage.is_file and Path(footage.path).exists() and not Path(footage.path).is_file():
        raise OSError("not a regular file")
    return footage.content_hash()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

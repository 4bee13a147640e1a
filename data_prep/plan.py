"""The plan of a run: which files are new, who is in them, and what an earlier run left unfinished."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray.data

from data_prep.cut_file import load_networks
from data_prep.cut_settings import CutSettings
from data_prep.hashing import hash_files
from data_prep.rejects import Reject
from data_prep.report import SHOWN_REJECTS
from data_prep.runs import Runs, Task
from data_prep.sources.footage import Footage, Source
from data_prep.splits import Splits, assign
from portrait.storage import fragments
from portrait.storage.clips import SPLITS, ClipTable

SETTINGS_KEY = "cut_settings"
"""Key in the table's schema metadata for the settings that its clips were cut with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is going to do."""

    uri: str
    """The clips table."""
    files: int
    """Number of files in the source."""
    known: int
    """How many of them need no cutting: in the table, rejected before, or already cut by an unfinished run."""
    duplicates: tuple[Reject, ...]
    """Files with the same content as another one of the source."""
    unreadable: tuple[Reject, ...]
    """Files that cannot be read."""
    todo: tuple[tuple[Footage, str], ...]
    """Files to be cut, each with the hash of its content."""
    splits: dict[str, str]
    """Split of each identity."""
    new: frozenset[str]
    """Identities that are neither in the table nor in an unfinished run."""
    unfinished: tuple[Task, ...]
    """Tasks of earlier runs that did not finish …"""
    uncommitted: tuple[Task, ...]
    """… and what of them is not in the table yet."""

    def text(self) -> str:
        """The plan as lines for the terminal."""
        people = Counter(self.splits[identity] for identity in self.new)
        size = sum(file.bytes_on_disk() for file, _ in self.todo)
        waiting = sum(len(task.clips) for task in self.uncommitted)
        lines = [
            f"{self.files} files: {self.known} already known, {len(self.duplicates)} duplicates, "
            f"{len(self.unreadable)} unreadable, {len(self.todo)} to cut ({size / 1e9:.2f} GB)",
            "new identities: "
            + (", ".join(f"{people[split]} in {split}" for split in SPLITS if people[split]) or "none"),
        ]
        if waiting:
            lines.append(f"{waiting} clips that an unfinished run has cut would be added")
        lines += [f"  {reject}" for reject in (*self.unreadable, *self.duplicates)[:SHOWN_REJECTS]]
        return "\n".join([*lines, f"dry run, nothing was written; the table would be {self.uri}"])


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """What the table holds before the run."""

    contents: frozenset[str]
    """Hashes of the files that its clips come from."""
    splits: dict[str, str]
    """Split of each identity."""


def make_plan(source: Source, uri: str, settings: CutSettings, splits: Splits) -> Plan:
    """Compares a source with a table. Writes nothing, but synthetic footage is rendered. Ray must be connected.

    Raises:
        FileNotFoundError: the source, or a network that the settings name, does not exist.
        ValueError: the source is empty or malformed, or assigns an identity to another split than the table does; or
            the table's clips were cut with other settings; or a network cannot be loaded.
    """
    load_networks(settings)
    fragments.check_target(uri)
    _silence_ray_data()
    stored, runs = _read_table(uri, settings), Runs(uri, settings.digest())
    rejected, unfinished = runs.rejected(), runs.unfinished()
    uncommitted = [_uncommitted(task, stored.contents, rejected) for task in unfinished]
    done = stored.contents | rejected | {f.content for task in uncommitted for f in task.files if f.settled}
    files = source.files()
    hashed, unreadable = hash_files(files, done)
    todo, duplicates = _unseen(hashed, done)
    fixed = _fixed_splits(files)
    before = {clip.identity: clip.split for task in uncommitted for clip in task.clips} | stored.splits
    _check_splits(fixed, before)
    people = {file.identity for file, _ in todo}
    never_test = {file.identity for file in files if not file.may_test}
    return Plan(
        uri=uri,
        files=len(files),
        known=len(hashed) - len(todo) - len(duplicates),
        duplicates=tuple(duplicates),
        unreadable=tuple(unreadable),
        todo=tuple(todo),
        splits=assign(people, splits, {**fixed, **before}, never_test),
        new=frozenset(people - before.keys()),
        unfinished=tuple(unfinished),
        uncommitted=tuple(uncommitted),
    )


def _silence_ray_data() -> None:
    """Ray Data's own progress counts blocks and fills logs; `ProgressLine` counts files."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def _read_table(uri: str, settings: CutSettings) -> _Stored:
    if not fragments.exists(uri):
        return _Stored(contents=frozenset(), splits={})
    table = ClipTable.open(uri)
    stored = (table.dataset.schema.metadata or {}).get(SETTINGS_KEY.encode())
    if stored is not None:
        # A setting that the table does not mention is newer than the table, which was cut as with its default.
        own = settings.stored()
        other = _merged(CutSettings(size=settings.size).stored(), json.loads(stored))
        differing = [field for field in {**own, **other} if other.get(field) != own.get(field)]
        if differing:
            name = differing[0]
            raise ValueError(
                f"{uri} holds clips cut with {name}={other.get(name)!r}, but this run has {name}={own.get(name)!r}: "
                "use another table"
            )
    rows = table.rows(("identity", "split", "provenance"))
    return _Stored(
        contents=frozenset(row["provenance"]["content"] for row in rows),
        splits={row["identity"]: row["split"] for row in rows},
    )


def _merged(defaults: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    return {
        **defaults,
        **{k: _merged(defaults.get(k) or {}, v) if isinstance(v, dict) else v for k, v in stored.items()},
    }


def _uncommitted(task: Task, in_table: frozenset[str], rejected: set[str]) -> Task:
    """A task without what is recorded already: clips of a run killed right after its commit, and known rejects."""
    committed = any(file.clips and file.content in in_table for file in task.files)
    files = [file for file in task.files if file.clips or file.content not in rejected]
    if committed:
        files = [file for file in files if not file.clips]
    return replace(task, files=tuple(files), fragments=() if committed else task.fragments)


def _unseen(
    hashed: Sequence[tuple[Footage, str]], done: frozenset[str]
) -> tuple[list[tuple[Footage, str]], list[Reject]]:
    """New files, and the duplicates among them."""
    todo: dict[str, tuple[Footage, str]] = {}
    duplicates: list[Reject] = []
    for file, content in hashed:
        if content in done:
            continue
        if content in todo:
            duplicates.append(Reject(path=file.label, reason=f"duplicate of {todo[content][0].label}"))
        todo.setdefault(content, (file, content))
    return list(todo.values()), duplicates


def _fixed_splits(files: Sequence[Footage]) -> dict[str, str]:
    """Splits that the source prescribes."""
    fixed: dict[str, str] = {}
    for file in files:
        if file.split is not None and fixed.setdefault(file.identity, file.split) != file.split:
            raise ValueError(
                f"the source puts {file.identity} into both {fixed[file.identity]} and {file.split}: an identity must "
                "be in one split only"
            )
    return fixed


def _check_splits(fixed: dict[str, str], before: dict[str, str]) -> None:
    for identity in sorted(fixed.keys() & before.keys()):
        if fixed[identity] != before[identity]:
            raise ValueError(
                f"{identity} is in split {before[identity]} of the table, but the source says {fixed[identity]}: an "
                "identity must stay in its split, so use another table"
            )

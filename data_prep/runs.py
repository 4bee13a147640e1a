"""The record of runs: what every run of data preparation cut, rejected, crashed on and committed.

It is the folder `TABLE.runs` beside the clips table and consists of JSON lines. While a run is in progress, or after it
was killed, there is a folder `RUN/` with

- `run.jsonl`, one line: `started`, with the process, the hash of the settings and the time it was last seen alive;
- `TASK.jsonl` for each task: `crashed` for each time a worker crashed on a file, and `began` for the file being cut.
  When the task is done it holds `crashed` lines, `cut` for each file and finally `written` with the uncommitted
  fragments. Without that last line nothing in it counts.

A finished run leaves `RUN.jsonl`: `started`, `rejected` for each clip or file that was rejected, and `committed`. It is
written just before the commit and counts once `RUN/run.jsonl` is gone. Every file is written under a temporary name and
then renamed, so none is ever incomplete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pyarrow import fs

from data_prep.rejects import Reject
from data_prep.target import open_filesystem, write_text

_MARKER = "run.jsonl"


@dataclass(frozen=True, kw_only=True)
class ClipSummary:
    """What the end of a run needs to know about a clip."""

    clip_id: str
    """Hash of the footage, the part of it and the settings."""
    identity: str
    """The person shown."""
    split: str
    """train, val or test."""
    seconds: float
    """Length of the clip."""
    fixed: bool = False
    """Whether the collection prescribes the split, so that it must not be changed."""


@dataclass(frozen=True, kw_only=True)
class CutFile:
    """The outcome for one file."""

    content: str
    """Hash of its content."""
    clips: tuple[ClipSummary, ...]
    """Its clips."""
    rejects: tuple[Reject, ...]
    """The parts of it that were rejected, or the whole."""

    @property
    def settled(self) -> bool:
        """Whether cutting it again would give the same outcome."""
        return not any(reject.retry for reject in self.rejects)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one task has cut and written, before it is committed."""

    run: str
    """Id of its run."""
    files: tuple[CutFile, ...]
    """Its files, in the order in which they were cut."""
    fragments: tuple[str, ...]
    """Uncommitted fragments with the files' clips, as JSON."""
    crashes: tuple[str, ...] = ()
    """Content on which a worker crashed, once per crash."""

    @property
    def clips(self) -> tuple[ClipSummary, ...]:
        """The clips of all files."""
        return tuple(clip for file in self.files for clip in file.clips)


@dataclass(frozen=True, kw_only=True)
class Started:
    """The process that a run belongs to."""

    run: str
    """Id of the run."""
    settings: str
    """Hash of the cut settings; empty for an import."""
    host: str
    """Name of the machine."""
    pid: int
    """Process id on that machine."""
    seen: float
    """Unix time at which the process last said that it is alive."""
    ended: bool = False
    """Whether the process gave up after an error, leaving its tasks to a later run."""


class Runs:
    """Reads and writes the record of one table.

    Args:
        table_uri: the clips table, a folder or URI; it need not exist.
        settings_digest: hash of the cut settings whose outcomes are of interest.
    """

    def __init__(self, table_uri: str, settings_digest: str = "") -> None:
        self.table_uri = table_uri.rstrip("/")
        self.uri = f"{self.table_uri}.runs"
        self.settings_digest = settings_digest
        self._filesystem, self._root = open_filesystem(self.uri)

    def finished_path(self, run: str) -> str:
        """Where the record of a finished run is."""
        return f"{self.uri}/{run}.jsonl"

    def rejected(self) -> set[str]:
        """Content that gave no clip with these settings, so that it need not be cut again.

        Content that could not be read is not included: a later attempt may succeed.
        """
        without_clips: set[str] = set()
        for path in self._finished():
            started, *lines = _read(self._filesystem, path)
            if started["settings"] != self.settings_digest:
                continue
            rejected = [line for line in lines if line["event"] == "rejected" and line["content"]]
            retried = {line["content"] for line in rejected if line["retry"]}
            without_clips |= {line["content"] for line in rejected if not line["clips"]} - retried
        return without_clips

    def unfinished(self) -> list[Task]:
        """Tasks of earlier runs with these settings that were killed or failed, in a fixed order.

        Tasks whose fragments have been deleted are not included.
        """
        runs = [started.run for started in self.active() if started.settings == self.settings_digest]
        return [task for run in runs for task in self.tasks(run) if self._fragments_exist(task)]

    def active(self) -> list[Started]:
        """Runs that have not finished, whatever their settings; some of them may still be in progress."""
        markers = [path for path in self._list() if path.endswith(f"/{_MARKER}")]
        found = []
        for path in markers:
            try:
                (line,) = _read(self._filesystem, path)
            except FileNotFoundError:  # it has just finished
                continue
            found.append(Started(**{name: value for name, value in line.items() if name != "event"}))
        return found

    def tasks(self, run: str) -> list[Task]:
        """Completed tasks of one run, in a fixed order."""
        tasks = []
        for path in self._list(run):
            lines = [] if path.endswith(f"/{_MARKER}") else _read(self._filesystem, path)
            if lines and lines[-1]["event"] == "written":
                tasks.append(_task(run, lines))
        return tasks

    def start(self, started: Started) -> None:
        """Writes a run's marker, or writes it again to say that the process is alive."""
        self._write(f"{started.run}/{_MARKER}", [{"event": "started", **asdict(started)}])

    def read_task(self, run: str, name: str) -> list[dict[str, Any]]:
        """Lines of a task's file; none if it has no file yet."""
        path = f"{self._root}/{run}/{name}.jsonl"
        if self._filesystem.get_file_info(path).type != fs.FileType.File:
            return []
        return _read(self._filesystem, path)

    def write_task(self, run: str, name: str, lines: Sequence[dict[str, Any]]) -> None:
        """Replaces a task's file."""
        self._write(f"{run}/{name}.jsonl", lines)

    def remove_task(self, run: str, name: str) -> None:
        """Removes a task's file if there is one."""
        path = f"{self._root}/{run}/{name}.jsonl"
        if self._filesystem.get_file_info(path).type == fs.FileType.File:
            self._filesystem.delete_file(path)

    def write_finished(self, started: Started, lines: Iterable[dict[str, Any]]) -> None:
        """Writes what remains of a run; it counts after `finish`."""
        self._write(f"{started.run}.jsonl", [{"event": "started", **asdict(started), "ended": True}, *lines])

    def finish(self, run: str) -> None:
        """Ends a run whose work is committed; earlier unfinished runs, whose work it took over, end with it."""
        # This run's marker goes first: from then on its own record counts, which includes what the others did.
        self._filesystem.delete_file(f"{self._root}/{run}/{_MARKER}")
        for other in self.active():
            if self._filesystem.get_file_info(f"{self._root}/{other.run}.jsonl").type == fs.FileType.File:
                self._filesystem.delete_file(f"{self._root}/{other.run}.jsonl")
        self.discard_unfinished()

    def end(self, started: Started) -> None:
        """Marks a run as given up so that a later one may take over its tasks at once; without any it is removed."""
        paths = self._list(started.run)
        if f"{self._root}/{started.run}/{_MARKER}" not in paths:
            return
        if len(paths) == 1:
            self._filesystem.delete_dir(f"{self._root}/{started.run}")
        else:
            self.start(replace(started, ended=True))

    def discard_unfinished(self) -> None:
        """Deletes the record of every run that has not finished."""
        for info in self._filesystem.get_file_info(fs.FileSelector(self._root, allow_not_found=True)):
            if info.type == fs.FileType.Directory:
                self._filesystem.delete_dir(info.path)

    def _finished(self) -> list[str]:
        paths = self._list()
        unfinished = {path.removesuffix(f"/{_MARKER}") for path in paths if path.endswith(f"/{_MARKER}")}
        return [
            path
            for path in paths
            if path.rpartition("/")[0] == self._root and path.removesuffix(".jsonl") not in unfinished
        ]

    def _list(self, run: str | None = None) -> list[str]:
        """Paths of all complete files, or of one run's."""
        selector = fs.FileSelector(
            self._root if run is None else f"{self._root}/{run}", allow_not_found=True, recursive=True
        )
        return sorted(
            info.path for info in self._filesystem.get_file_info(selector) if info.path.endswith(".jsonl")
        )

    def _write(self, name: str, lines: Iterable[dict[str, Any]]) -> None:
        path = f"{self._root}/{name}"
        self._filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        write_text(
            self._filesystem, path, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
        )

    def _fragments_exist(self, task: Task) -> bool:
        filesystem, root = open_filesystem(self.table_uri)
        files = [file["path"] for text in task.fragments for file in json.loads(text)["files"]]
        infos = filesystem.get_file_info([f"{root}/data/{name}" for name in files])
        return all(info.type == fs.FileType.File for info in infos)


def task_name(run: str, contents: Iterable[str]) -> str:
    """Name of a task: the same for each attempt that Ray makes at it."""
    return hashlib.sha256(" ".join((run, *contents)).encode()).hexdigest()[:32]


def task_lines(files: Iterable[CutFile], fragments: Sequence[str]) -> list[dict[str, Any]]:
    """Lines that say what a task has done."""
    return [
        *({"event": "cut", **asdict(file)} for file in files),
        {"event": "written", "fragments": list(fragments)},
    ]


def rejected_line(reject: Reject, file: CutFile | None = None) -> dict[str, Any]:
    """A line of a finished run; `file` is the cut file that the reject belongs to, None if it was not cut."""
    content, clips = (None, 0) if file is None else (file.content, len(file.clips))
    return {"event": "rejected", **asdict(reject), "content": content, "clips": clips}


def _task(run: str, lines: Sequence[dict[str, Any]]) -> Task:
    return Task(
        run=run,
        files=tuple(
            CutFile(
                content=line["content"],
                clips=tuple(ClipSummary(**clip) for clip in line["clips"]),
                rejects=tuple(Reject(**reject) for reject in line["rejects"]),
            )
            for line in lines
            if line["event"] == "cut"
        ),
        fragments=tuple(lines[-1]["fragments"]),
        crashes=tuple(line["content"] for line in lines if line["event"] == "crashed"),
    )


def _read(filesystem: fs.FileSystem, path: str) -> list[dict[str, Any]]:
    with filesystem.open_input_stream(path) as stream:
        text = stream.read().decode()
    try:
        lines = [
            json.loads(line) for line in text.split("\n") if line
        ]  # splitlines() would split at U+2028 as well
    except ValueError as error:
        raise ValueError(
            f"{path}: invalid JSON in the record of runs ({error}); remove the file, and what it recorded is cut again"
        ) from error
    if not lines:
        raise ValueError(f"{path}: the record is empty; remove the file, and what it recorded is cut again")
    return lines

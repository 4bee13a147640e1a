"""The ledger of a run: what is written but not yet part of the table, so that a killed run goes on where it stopped.

A record is one JSON file, written after its fragments and complete or absent. Records of one table and one set of
settings lie in one folder beside the table; the commit removes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pyarrow import fs

from data_prep.rejects import Reject


@dataclass(frozen=True, kw_only=True)
class ClipSummary:
    """What the end of a run needs to know of a clip."""

    clip_id: str
    """Its id."""
    identity: str
    """Who it shows."""
    split: str
    """Its split."""
    seconds: float
    """Its length."""
    fixed: bool = False
    """Whether its collection gives the split, which nobody may change then."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one task wrote."""

    run: str
    """Id of the run it belongs to."""
    fragments: tuple[str, ...]
    """Uncommitted fragments as JSON."""
    contents: tuple[str, ...]
    """Hashes of the files that are done, those left out as well."""
    clips: tuple[ClipSummary, ...]
    """The clips in the fragments."""
    rejects: tuple[Reject, ...]
    """What was left out."""
    died: bool = False
    """Whether a worker died of it: what that one had written is nobody's."""
    again: tuple[str, ...] = ()
    """Of the contents, those that could not be read and are to be tried again."""

    @property
    def done(self) -> frozenset[str]:
        """Contents that need no other try."""
        return frozenset(self.contents) - frozenset(self.again)


class Ledger:
    """Records of uncommitted work, in a folder or an object store."""

    def __init__(self, table_uri: str, settings_digest: str) -> None:
        """The ledger of a table for one set of settings; nothing is made yet."""
        self._root_uri = f"{table_uri.rstrip('/')}.ingest"
        self.watch_folder = f"{self._root_uri}/watch"
        """For `deaths.Watch`."""
        self._settings = settings_digest

    def begin(self) -> bool:
        """Opens the ledger for a run.

        Returns:
            Whether a run before did not come to its end, killed or for want of space.
        """
        filesystem, root = open_filesystem(self._root_uri)
        unfinished = filesystem.get_file_info(root).type == fs.FileType.Directory
        filesystem.create_dir(root, recursive=True)
        return unfinished

    def add(self, record: Record) -> None:
        """Writes a record; a crash leaves it whole or absent. A task that Ray repeats replaces its own record."""
        filesystem, folder = self._open()
        filesystem.create_dir(folder, recursive=True)
        files = hashlib.sha256(" ".join(record.contents).encode()).hexdigest()[:32]
        path = f"{folder}/{record.run}-{files}.json"
        write_text(filesystem, path, json.dumps(asdict(record)))

    def records(self) -> list[Record]:
        """All records of earlier runs and of this one, in a fixed order."""
        filesystem, folder = self._open()
        found = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return [
            _read(filesystem, info.path)
            for info in sorted(found, key=lambda info: info.path)
            if info.path.endswith(".json")
        ]

    def clear(self) -> None:
        """Forgets everything, other settings' leftovers too."""
        filesystem, root = open_filesystem(self._root_uri)
        if filesystem.get_file_info(root).type == fs.FileType.Directory:
            filesystem.delete_dir(root)

    def _open(self) -> tuple[fs.FileSystem, str]:
        filesystem, root = open_filesystem(self._root_uri)
        return filesystem, f"{root}/{self._settings}"


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a plain path or a URI, and the path on it."""
    if "://" in uri:
        return fs.FileSystem.from_uri(uri)
    return fs.FileSystem.from_uri(_absolute(uri))


def write_text(filesystem: fs.FileSystem, path: str, text: str) -> None:
    """Writes a file under another name first, then gives it its own, so that no reader sees half of it."""
    try:
        with filesystem.open_output_stream(f"{path}.part") as stream:
            stream.write(text.encode())
        filesystem.move(f"{path}.part", path)
    except OSError:
        with contextlib.suppress(OSError):
            filesystem.delete_file(f"{path}.part")
        raise


def _absolute(path: str) -> str:
    return str(Path(path).absolute())


def _read(filesystem: fs.FileSystem, path: str) -> Record:
    with filesystem.open_input_stream(path) as stream:
        data = json.loads(stream.read())
    return Record(
        run=data["run"],
        fragments=tuple(data["fragments"]),
        contents=tuple(data["contents"]),
        clips=tuple(ClipSummary(**clip) for clip in data["clips"]),
        rejects=tuple(Reject(**reject) for reject in data["rejects"]),
        again=tuple(data["again"]),
        died=data["died"],
    )

"""What a source yields: pieces of footage, each with the identity of the person in it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from data_prep.sources.addresses import open_address


@dataclass(frozen=True, kw_only=True)
class Footage:
    """A file of raw footage, or a part of one."""

    path: str
    """The file, or the archive that contains it: a path, or a URL that fsspec reads (http, s3, …)."""
    identity: str
    """The person in it; all clips of an identity are in the same split."""
    source: str
    """Name of the collection."""
    licence: str | None = None
    """Its licence, if known."""
    split: str | None = None
    """The split that the collection prescribes for the person; None if it is to be drawn."""
    may_test: bool = True
    """Whether the person may be drawn into the test split; False if the collection has a test set of its own."""
    member: str | None = None
    """Its name in the archive, if it is in one …"""
    offset: int = 0
    """… the position of its first byte there …"""
    size: int | None = None
    """… and its size in bytes."""
    start_s: float = 0.0
    """Start of the wanted part, in seconds of the file."""
    end_s: float | None = None
    """End of the wanted part; None for the end of the file."""
    region: tuple[int, int, int, int] | None = None
    """(x, y, width, height) of the region that contains the person, in pixels; None for the whole frame."""
    problem: str | None = None
    """A known defect, for which the file is rejected."""
    sync_confidence: float | None = None
    """SyncNet's confidence in `sync_offset`, if the collection provides it."""
    sync_offset: int | None = None
    """Frames by which the lips lag behind the sound, if the collection provides it."""

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self.path if self.member is None else f"{self.path}: {self.member}"

    @property
    def is_file(self) -> bool:
        """Whether it is a local file, which a decoder can open by its path."""
        return self.member is None and "://" not in self.path

    def media(self) -> str | bytes:
        """What to pass to a decoder: the path, or the content if it is not a local file.

        Raises:
            OSError: the content cannot be read.
        """
        return self.path if self.is_file else self._content()

    def _content(self) -> bytes:
        with open_address(self.path) as file:
            file.seek(self.offset)
            content = file.read(-1 if self.size is None else self.size)
        if self.size is not None and len(content) < self.size:
            raise OSError(f"{self.path} is truncated: got {len(content)} bytes, expected {self.size}")
        return content

    def content_hash(self) -> str:
        """SHA-256 of the file's content and, for a part of a file, of the times and region of the part.

        Raises:
            OSError: the file cannot be read.
        """
        if self.is_file:
            state = Path(self.path).stat()
            digest = _file_digest(self.path, state.st_mtime_ns, state.st_size).copy()
        else:
            digest = hashlib.sha256(self._content())
        if self.start_s or self.end_s is not None or self.region is not None:
            digest.update(f"{self.start_s}:{self.end_s}:{self.region}".encode())
        return digest.hexdigest()

    def bytes_on_disk(self) -> int:
        """Size of the whole file; 0 for a URL of unknown size."""
        if self.size is not None:
            return self.size
        return Path(self.path).stat().st_size if self.is_file else 0


@lru_cache(maxsize=8)
def _file_digest(path: str, mtime_ns: int, size: int) -> Any:  # noqa: ARG001 - a changed file is read again
    """SHA-256 of a file, read once for all its parts."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256")


class Source(Protocol):
    """A collection of footage."""

    @property
    def name(self) -> str:
        """Value of the table's `source` column."""
        ...

    def files(self) -> list[Footage]:
        """All footage in a fixed order; called once, with Ray connected.

        Raises:
            FileNotFoundError: the collection does not exist.
            ValueError: the collection is empty or malformed.
        """
        ...

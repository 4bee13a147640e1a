"""What a source gives: footage, each piece with the person in it."""

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
    """The file, or the archive that it lies in: a path, or an address that fsspec reads (http, s3, …)."""
    identity: str
    """Who is in it: clips of one identity fall into one split."""
    source: str
    """Name of the collection."""
    licence: str | None = None
    """Its licence, where known."""
    split: str | None = None
    """The split that its collection puts the person into; None leaves that to the run."""
    may_test: bool = True
    """Whether the person may be drawn into the test split: not where the collection has a test set of its own."""
    member: str | None = None
    """Its name in the archive, where it lies in one …"""
    offset: int = 0
    """… its first byte there …"""
    size: int | None = None
    """… and its bytes."""
    start_s: float = 0.0
    """Where the part that is wanted begins, in seconds of the file."""
    end_s: float | None = None
    """Where it ends; None for the file's end."""
    region: tuple[int, int, int, int] | None = None
    """(x, y, width, height) in pixels of the picture in which the person is; None for anywhere."""
    problem: str | None = None
    """What is known to be wrong with it, for which it is left out."""
    sync_confidence: float | None = None
    """How sure a SyncNet was of `sync_offset`, where the collection says."""
    sync_offset: int | None = None
    """Frames by which the lips are late, where the collection says."""

    @property
    def label(self) -> str:
        """What reports call it."""
        return self.path if self.member is None else f"{self.path}: {self.member}"

    @property
    def is_file(self) -> bool:
        """Whether it is a file on this machine, that a decoder can open itself."""
        return self.member is None and "://" not in self.path

    def media(self) -> str | bytes:
        """What a decoder opens: the path, or the content where it is not a file of its own.

        Raises:
            OSError: it cannot be read.
        """
        return self.path if self.is_file else self._content()

    def _content(self) -> bytes:
        with open_address(self.path) as file:
            file.seek(self.offset)
            content = file.read(-1 if self.size is None else self.size)
        if self.size is not None and len(content) < self.size:
            raise OSError(f"{self.path} breaks off: {len(content)} bytes instead of {self.size}")
        return content

    def content_hash(self) -> str:
        """SHA-256 of the file; of a part of one, of that together with which part it is.

        Raises:
            OSError: it cannot be read.
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
        """Size of the file; of a part of one too, and of an address only where it is known."""
        if self.size is not None:
            return self.size
        return Path(self.path).stat().st_size if self.is_file else 0


@lru_cache(maxsize=8)
def _file_digest(path: str, mtime_ns: int, size: int) -> Any:  # noqa: ARG001 - a file that changes is read anew
    """SHA-256 of a file, read once for all the parts of it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256")


class Source(Protocol):
    """A collection of footage."""

    @property
    def name(self) -> str:
        """What the table's `source` column says."""
        ...

    def files(self) -> list[Footage]:
        """All footage in a fixed order; called once, with Ray connected.

        Raises:
            FileNotFoundError: the collection is not there.
            ValueError: it is empty or malformed.
        """
        ...

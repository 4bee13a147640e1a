"""What a source gives: files of footage, each with the person in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Footage:
    """A file of raw footage."""

    path: str
    """Where it is."""
    identity: str
    """Who is in it: clips of one identity fall into one split."""
    source: str
    """Name of the collection."""
    licence: str | None = None
    """Its licence, where known."""
    split: str | None = None
    """The split that its collection puts the person into; None leaves that to the run."""


class Source(Protocol):
    """A collection of footage."""

    @property
    def name(self) -> str:
        """What the table's `source` column says."""
        ...

    def files(self) -> list[Footage]:
        """All files in a fixed order; called once, with Ray connected.

        Raises:
            FileNotFoundError: the collection is not there.
            ValueError: it is empty or malformed.
        """
        ...

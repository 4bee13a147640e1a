"""Rejects: footage that does not become clips, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A file, or a part of one, that was rejected or skipped."""

    path: str
    """The file, as reports call it."""
    reason: str
    """The reason, one line of text."""
    start_s: float | None = None
    """Start of the rejected part in seconds of the file; None for the whole file."""
    end_s: float | None = None
    """End of the rejected part."""
    retry: bool = False
    """Whether a later run should try again: the file could not be read, which says nothing about its content."""

    @property
    def kind(self) -> str:
        """The reason with # for numbers, to count similar ones together."""
        return re.sub(r"[0-9]+(\.[0-9]+)?", "#", self.reason)

    def __str__(self) -> str:
        part = "" if self.start_s is None else f" [{self.start_s:.1f}–{self.end_s:.1f} s]"
        return f"{self.path}{part}: {self.reason}"

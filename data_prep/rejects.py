"""What is left out of a table, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Footage that was left out."""

    path: str
    """The file."""
    reason: str
    """Why, in words."""
    start_s: float | None = None
    """Beginning of the part that was left out; None for the whole file."""
    end_s: float | None = None
    """Its end."""
    again: bool = False
    """Whether another try may go better: it could not be read, which says nothing of what is in it."""

    @property
    def kind(self) -> str:
        """The reason without its numbers, so that like ones can be counted together."""
        return re.sub(r"[0-9]+(\.[0-9]+)?", "#", self.reason)

    def __str__(self) -> str:
        part = "" if self.start_s is None else f" [{self.start_s:.1f}–{self.end_s:.1f} s]"
        return f"{self.path}{part}: {self.reason}"

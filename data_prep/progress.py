"""Progress on the standard error stream: a bar in a terminal, an occasional line in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LOG_SECONDS = 10.0
"""Least time between two lines in a log."""


class ProgressLine:
    """Counts finished items.

    Args:
        label: what is being done.
        total: number of items.
        unit: name of an item, in the singular.
    """

    def __init__(self, label: str, *, total: int, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._done, self._logged = 0, time.monotonic()
        self._bar = tqdm(total=total, desc=label, unit=unit) if sys.stderr.isatty() and total else None

    def advance(self, items: int = 1, note: str = "") -> None:
        """Adds finished items; the note is shown beside the count."""
        self._done += items
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(items)
        elif self._done >= self._total or time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            suffix = f" ({note})" if note else ""
            print(
                f"{self._label}: {self._done}/{self._total} {self._unit}s{suffix}",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

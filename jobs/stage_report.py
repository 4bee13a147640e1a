"""Stages of a long command: what runs now, how long each took, what it found; a table of all of them at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from jobs.command_line import USER_ERRORS, one_line


class StageError(Exception):
    """A stage did not get to its end; the message names the stage and the reason."""

    def __init__(self, stage: str, error: Exception) -> None:
        super().__init__(f"stage '{stage}' failed: {one_line(error)}")
        self.users_own = isinstance(error, USER_ERRORS)
        """Whether the user can mend it."""


@dataclass(kw_only=True)
class Stage:
    """One stage; figures are added while it runs."""

    name: str
    """As the table shows it."""
    seconds: float = 0.0
    """How long it took."""
    figures: list[str] = field(default_factory=list)
    """What it found, in words and numbers."""

    def note(self, figure: str) -> None:
        """Adds a figure to the stage's row."""
        self.figures.append(figure)


class StageReport:
    """Runs stages one after another and keeps their rows."""

    def __init__(self, total: int) -> None:
        self.stages: list[Stage] = []
        self._total = total
        # A log has no width of its own; 80 columns would break most figures.
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Announces a stage, times it and says what it found.

        Raises:
            StageError: anything went wrong inside; the cause is attached.
        """
        stage = Stage(name=name)
        self.stages.append(stage)
        self._console.rule(f"[bold]{len(self.stages)}/{self._total}  {name}", align="left")
        started = time.monotonic()
        try:
            yield stage
        except Exception as error:
            raise StageError(name, error) from error
        finally:
            stage.seconds = time.monotonic() - started
        for figure in stage.figures:
            self._console.print(f"   {figure}", markup=False)
        self._console.print(f"   [dim]{stage.seconds:.0f} s[/dim]")

    def print(self) -> None:
        """The table of all stages."""
        table = Table(title="What happened", title_justify="left", show_lines=True)
        table.add_column("stage", no_wrap=True)
        table.add_column("seconds", justify="right")
        table.add_column("figures", overflow="fold")
        for stage in self.stages:
            table.add_row(stage.name, f"{stage.seconds:.0f}", "\n".join(stage.figures))
        table.add_row("all", f"{sum(stage.seconds for stage in self.stages):.0f}", "")
        self._console.print(table)

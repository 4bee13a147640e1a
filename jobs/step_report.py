"""Steps of a long command: which one is running, how long each took, what it found; at the end a table of them all."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from jobs.command_line import USER_ERRORS, one_line


class StepError(Exception):
    """A step failed; the message names the step and the reason."""

    def __init__(self, step: str, error: Exception) -> None:
        super().__init__(f"step '{step}' failed: {one_line(error)}")
        self.is_user_error = isinstance(error, USER_ERRORS)
        """Whether the user can fix it."""


@dataclass(kw_only=True)
class Step:
    """One step; notes are added while it runs."""

    name: str
    """The step's row in the table."""
    seconds: float = 0.0
    """How long it took."""
    notes: list[str] = field(default_factory=list)
    """What it found, a line each."""

    def note(self, text: str) -> None:
        """Adds a line to the step's row."""
        self.notes.append(text)


class StepReport:
    """Runs steps one after another and keeps their rows.

    Args:
        total: number of steps to come.
    """

    def __init__(self, total: int) -> None:
        self.steps: list[Step] = []
        self._total = total
        # A log file has no width; rich's 80 columns would break most lines.
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Announces a step, times it and prints its notes.

        Raises:
            StepError: anything failed inside; the cause is attached.
        """
        step = Step(name=name)
        self.steps.append(step)
        self._console.rule(f"[bold]{len(self.steps)}/{self._total}  {name}", align="left")
        started = time.monotonic()
        try:
            yield step
        except Exception as error:
            raise StepError(name, error) from error
        finally:
            step.seconds = time.monotonic() - started
        for note in step.notes:
            self._console.print(f"   {note}", markup=False)
        self._console.print(f"   [dim]{step.seconds:.0f} s[/dim]")

    def print(self) -> None:
        """Prints the table of all steps."""
        table = Table(title="Summary", title_justify="left", show_lines=True)
        table.add_column("step", no_wrap=True)
        table.add_column("seconds", justify="right")
        table.add_column("result", overflow="fold")
        for step in self.steps:
            table.add_row(step.name, f"{step.seconds:.0f}", "\n".join(step.notes))
        table.add_row("total", f"{sum(step.seconds for step in self.steps):.0f}", "")
        self._console.print(table)

"""Crash guard: a file on which workers crash (a fault in a decoder, or memory that runs out) is rejected.

Such a crash leaves no error to catch, and Ray starts the task again. The task's file in the record of runs says which
file was being cut, so the next attempt knows where the last one crashed.
"""

from __future__ import annotations

from typing import Any

from data_prep.runs import Runs

MAX_CRASHES = 2
"""Crashes after which a file is rejected; a single one may have had another cause."""


class CrashGuard:
    """Counts the crashes of one task over all its attempts.

    Args:
        runs: the record.
        run: id of the run.
        task: name of the task, the same in every attempt.
    """

    def __init__(self, runs: Runs, run: str, task: str) -> None:
        self._runs, self._run, self._task = runs, run, task
        lines = runs.read_task(run, task)
        self._crashed = [line["content"] for line in lines if line["event"] in ("crashed", "began")]

    def begin(self, content: str) -> bool:
        """Records that the task begins to cut a file; False if it must not, after `MAX_CRASHES` crashes."""
        began = {"event": "began", "content": content}
        self._runs.write_task(self._run, self._task, [*self.lines(), began])
        return self._crashed.count(content) < MAX_CRASHES

    def lines(self) -> list[dict[str, Any]]:
        """The record's lines for the crashes so far."""
        return [{"event": "crashed", "content": content} for content in self._crashed]

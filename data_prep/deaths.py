"""Files that kill whoever cuts them: a crash inside a decoder, or memory that runs out, leaves no error to catch.

Ray starts a task again whose worker died. A small file beside the ledger says which file a task has turned to, so that
its next attempt knows where the last one ended.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter

from pyarrow import fs

from data_prep.ledger import open_filesystem, write_text

MAX_DEATHS = 2
"""A worker that dies once may have died of something else."""


class Watch:
    """One attempt of a task.

    Args:
        folder: URI of a folder for these files.
        task: names the task, the same in every attempt.
    """

    def __init__(self, folder: str, task: str) -> None:
        self._filesystem, place = open_filesystem(folder)
        self._filesystem.create_dir(place, recursive=True)
        self._place = f"{place}/{task}"
        self._deaths: Counter[str] = Counter()
        if self._filesystem.get_file_info(self._place).type == fs.FileType.File:
            with self._filesystem.open_input_stream(self._place) as stream:
                state = json.loads(stream.read())
            self._deaths = Counter([*state["deaths"], state["at"]])

    def begin(self, content: str) -> bool:
        """Says that the task turns to a file, given by its hash; whether it may, or has died of it too often."""
        write_text(
            self._filesystem,
            self._place,
            json.dumps({"deaths": list(self._deaths.elements()), "at": content}),
        )
        return self._deaths[content] < MAX_DEATHS

    def end(self) -> bool:
        """The attempt comes to an end of its own; whether earlier ones did not."""
        with contextlib.suppress(FileNotFoundError):
            self._filesystem.delete_file(self._place)
        return bool(self._deaths)

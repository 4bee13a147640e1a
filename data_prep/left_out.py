"""Content that gave no clip, kept beside the table: later runs need not cut it again to find that out.

One line a file, the settings' digest and the content's hash. Whoever wants them tried again removes the file.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyarrow import fs

from data_prep.ledger import open_filesystem, write_text


class LeftOut:
    """What was left out of a table with one set of settings."""

    def __init__(self, table_uri: str, settings_digest: str) -> None:
        self.path = f"{table_uri.rstrip('/')}.left_out"
        self._settings = settings_digest

    def contents(self) -> set[str]:
        """Hashes of the content that gave no clip."""
        lines = (line.split() for line in self._lines())
        return {fields[1] for fields in lines if len(fields) == 2 and fields[0] == self._settings}

    def add(self, contents: Iterable[str]) -> None:
        """Adds to what is there; the file is whole at every moment."""
        new = {f"{self._settings} {content}" for content in contents}
        known = self._lines()
        if not new <= set(known):
            filesystem, place = open_filesystem(self.path)
            write_text(
                filesystem, place, "".join(f"{line}\n" for line in [*known, *sorted(new - set(known))])
            )

    def _lines(self) -> list[str]:
        filesystem, place = open_filesystem(self.path)
        if filesystem.get_file_info(place).type != fs.FileType.File:
            return []
        with filesystem.open_input_stream(place) as stream:
            return stream.read().decode().splitlines()

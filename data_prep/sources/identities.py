"""Identities from a table: a CSV file with the columns `path`, `identity` and, optionally, `split`."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.sources.footage import Footage, Source
from portrait.storage.clips import SPLITS


@dataclass(frozen=True, kw_only=True)
class NamedByTable:
    """The files of another source that a CSV file lists, with identities (and splits) from there."""

    source: Source
    """Source of the files."""
    root: Path
    """Folder that relative paths in the CSV file refer to."""
    table: Path
    """The CSV file; its paths are relative to the root, or absolute."""

    @property
    def name(self) -> str:
        return self.source.name

    def files(self) -> list[Footage]:
        """The listed files, in the order of the CSV file.

        Raises:
            FileNotFoundError: the CSV file, or a file that it lists, does not exist.
            ValueError: a column is missing, a cell is empty, a split is unknown, or an identity has two splits.
        """
        known = {os.path.normpath(file.path): file for file in self.source.files()}
        named, splits = [], {}
        for line, row in enumerate(self._rows(), 2):
            path = os.path.normpath((self.root / row["path"]).absolute())
            if path not in known:
                raise FileNotFoundError(f"{self.table} line {line}: no video {row['path']} in {self.root}")
            split = row.get("split") or None
            if split not in (None, *SPLITS):
                raise ValueError(
                    f"{self.table} line {line}: split {split!r}, expected {', '.join(SPLITS)} or nothing"
                )
            if splits.setdefault(row["identity"], split) != split:
                raise ValueError(
                    f"{self.table} line {line}: {row['identity']} has another split in an earlier line"
                )
            named.append(replace(known[path], identity=row["identity"], split=split))
        return named

    def _rows(self) -> list[dict[str, str]]:
        if not self.table.is_file():
            raise FileNotFoundError(f"the table of identities {self.table} does not exist")
        try:
            text = self.table.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.table} is not valid UTF-8: {error}") from error
        reader = csv.DictReader(io.StringIO(text, newline=""))
        missing = [name for name in ("path", "identity") if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{self.table} has no column {missing[0]!r}; expected path, identity and, optionally, split"
            )
        rows = [{name: (cell or "").strip() for name, cell in row.items() if name} for row in reader]
        for line, row in enumerate(rows, 2):
            if not row["path"] or not row["identity"]:
                raise ValueError(f"{self.table} line {line}: path and identity must not be empty")
        if not rows:
            raise ValueError(f"{self.table} lists no files")
        return rows

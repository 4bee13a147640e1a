"""VoxCeleb2 as it is unpacked: ROOT/[dev|test/][mp4/]idNNNNN/VIDEO/UTTERANCE.mp4, with or without its metadata.

Where its face tracks lie beside the videos (…/txt/idNNNNN/VIDEO/UTTERANCE.txt), what they say of the lips' offset from
the sound and a SyncNet's confidence in it becomes the clips' columns.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage

_PERSON = re.compile(r"/(?P<identity>id[0-9]{5})/[^/]+/[^/]+$")
_META = "vox2_meta.csv"
_HEAD = re.compile(r"^(Offset|ASD Conf)\s*:\s*([-+]?[0-9]{1,6}(?:\.[0-9]*)?)(?=\s|$)", re.MULTILINE)
"""Of a face track: frames between lips and sound, and the confidence of the SyncNet that said so."""


@dataclass(frozen=True, kw_only=True)
class VoxCeleb2Source:
    """Every utterance; who is in VoxCeleb2's own test set is in the test split and nobody else, so that figures can be
    compared.

    The set is known from `vox2_meta.csv` in the root, or else from the folder above the identities', `dev` or `test`;
    where neither says, everyone's split is drawn.
    """

    folder: Path
    """The root."""
    licence: str | None = "CC BY-SA 4.0 (metadata); videos belong to their authors"
    """Kept in every row's provenance."""

    @property
    def name(self) -> str:
        return "voxceleb2"

    def files(self) -> list[Footage]:
        """Every utterance, in the paths' order.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it holds no video in VoxCeleb2's layout, or its metadata is not VoxCeleb2's.
        """
        # The folder's own walk finds the files; whose they are is read from their paths here.
        listed = FolderSource(folder=self.folder, licence=self.licence).files()
        of_test = self._test_identities()
        files = []
        for file in listed:
            path = Path(file.path)
            match = _PERSON.search(path.as_posix())
            if match is None:
                continue
            identity = match["identity"]
            # Where the set is known nobody else becomes a test person: figures would be of other people than others'.
            known = of_test is not None or _set_folder(path) in ("dev", "test")
            is_test = identity in of_test if of_test is not None else _set_folder(path) == "test"
            files.append(
                Footage(
                    path=file.path,
                    identity=identity,
                    source=self.name,
                    licence=self.licence,
                    split="test" if is_test else None,
                    may_test=not known,
                    **_sync(path),
                )
            )
        if not files:
            raise ValueError(
                f"{self.folder}: none of its {len(listed)} videos lies at idNNNNN/VIDEO/UTTERANCE.mp4 as in VoxCeleb2"
            )
        return files

    def _test_identities(self) -> set[str] | None:
        """Those that the metadata puts into the test set; None without metadata."""
        path = self.folder / _META
        if not path.is_file():
            return None
        with path.open(newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        has_people = any(re.fullmatch("id[0-9]{5}", row[0]) for row in rows)
        if not has_people or "Set" not in rows[0]:
            raise ValueError(
                f"{path} is not VoxCeleb2's metadata: a column 'Set' and identities id00012 … are expected"
            )
        column = rows[0].index("Set")
        return {row[0] for row in rows[1:] if len(row) > column and row[column] == "test"}


def _set_folder(utterance: Path) -> str:
    """`dev` or `test` of …/test/mp4/idNNNNN/VIDEO/UTTERANCE.mp4, whether or not `mp4` is there."""
    above = utterance.parents[2]
    return above.parent.name if above.name in ("mp4", "aac", "m4a") else above.name


def _sync(utterance: Path) -> dict[str, Any]:
    """Lips and sound by the face track of …/mp4/idNNNNN/VIDEO/UTTERANCE.mp4; nothing without one."""
    parts = utterance.with_suffix(".txt").parts
    below = utterance.parents[2]
    places = [
        below.joinpath(*parts[-3:]),
        below.parent.joinpath("txt", *parts[-3:]),
        below.joinpath("txt", *parts[-3:]),
    ]
    track = next((place for place in places if place.is_file()), None)
    if track is None:
        return {}
    head = dict(_HEAD.findall(track.read_text(encoding="utf-8", errors="replace")[:1000]))
    found: dict[str, Any] = {}
    if "Offset" in head:
        found["sync_offset"] = round(float(head["Offset"]))
    if "ASD Conf" in head:
        found["sync_confidence"] = float(head["ASD Conf"])
    return found

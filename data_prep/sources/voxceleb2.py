"""VoxCeleb2 as unpacked: ROOT/[dev|test/][mp4/]idNNNNN/VIDEO/UTTERANCE.mp4, with or without its metadata.

If its face tracks are beside the videos (…/txt/idNNNNN/VIDEO/UTTERANCE.txt), the sync offset that they state and
SyncNet's confidence in it become columns of the clips.
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
"""Header lines of a face track: the offset between lips and sound in frames, and SyncNet's confidence in it."""


@dataclass(frozen=True, kw_only=True)
class VoxCeleb2Source:
    """Every utterance. The test split is exactly VoxCeleb2's own test set, so that results can be compared.

    The set is read from `vox2_meta.csv` in the root or, without that, from the folder above the identities, `dev` or
    `test`; without either, splits are drawn.
    """

    folder: Path
    """The root folder."""
    licence: str | None = "CC BY-SA 4.0 (metadata); videos belong to their authors"
    """Licence of the footage, stored with every clip."""

    @property
    def name(self) -> str:
        return "voxceleb2"

    def files(self) -> list[Footage]:
        """Every utterance, in the order of the paths.

        Raises:
            FileNotFoundError: the folder does not exist.
            ValueError: it contains no video in VoxCeleb2's layout, or the metadata has another format.
        """
        listed = FolderSource(folder=self.folder, licence=self.licence).files()
        of_test = self._test_identities()
        files = []
        for file in listed:
            path = Path(file.path)
            match = _PERSON.search(path.as_posix())
            if match is None:
                continue
            identity = match["identity"]
            # If the test set is known, no one else may be in it: results would not be comparable with published ones.
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
                f"{self.folder}: none of the {len(listed)} videos has VoxCeleb2's layout idNNNNN/VIDEO/UTTERANCE.mp4"
            )
        return files

    def _test_identities(self) -> set[str] | None:
        """The identities of the test set by the metadata; None without metadata."""
        path = self.folder / _META
        if not path.is_file():
            return None
        with path.open(newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        has_people = any(re.fullmatch("id[0-9]{5}", row[0]) for row in rows)
        if not has_people or "Set" not in rows[0]:
            raise ValueError(
                f"{path} is not VoxCeleb2's metadata; expected a column 'Set' and identities such as id00012"
            )
        column = rows[0].index("Set")
        return {row[0] for row in rows[1:] if len(row) > column and row[column] == "test"}


def _set_folder(utterance: Path) -> str:
    """`dev` or `test` of …/test/mp4/idNNNNN/VIDEO/UTTERANCE.mp4, with or without the folder `mp4`."""
    above = utterance.parents[2]
    return above.parent.name if above.name in ("mp4", "aac", "m4a") else above.name


def _sync(utterance: Path) -> dict[str, Any]:
    """Sync offset and confidence by the face track of …/mp4/idNNNNN/VIDEO/UTTERANCE.mp4; empty without one."""
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

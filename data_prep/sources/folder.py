"""Any folder of videos, searched recursively."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from data_prep.sources.footage import Footage

# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm",
    ".wmv",
))
# fmt: on


@dataclass(frozen=True, kw_only=True)
class FolderSource:
    """Every video file below a folder; hidden files and other files are skipped."""

    folder: Path
    """The folder, or a single video file."""
    identity_pattern: str | None = None
    """Regular expression that is searched in a file's path below the folder (with /): its group `identity`, or else its
    first group, is the identity. None takes the top-level folder of a file, or its stem if it is in none."""
    licence: str | None = None
    """Licence of the footage."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def files(self) -> list[Footage]:
        if not self.folder.exists():
            raise FileNotFoundError(f"no footage at {self.folder}: no such file or folder")
        root = self.folder if self.folder.is_dir() else self.folder.parent
        paths = _videos(self.folder) if self.folder.is_dir() else [self.folder]
        if not paths:
            known = ", ".join(sorted(VIDEO_SUFFIXES))
            raise ValueError(f"{self.folder} contains no video files ({known})")
        pattern = compiled_pattern(self.identity_pattern)
        return [
            Footage(
                # Links are not resolved: names and neighbouring files are those of the collection.
                path=str(path.absolute()),
                identity=identity_in_path(path.relative_to(root), pattern),
                source=self.name,
                licence=self.licence,
            )
            for path in paths
        ]


def _videos(folder: Path) -> list[Path]:
    found: list[Path] = []
    walked: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to a folder that has been visited.
        if os.path.realpath(parent) in walked:
            folders[:] = []
            continue
        walked.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in names
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def compiled_pattern(text: str | None) -> re.Pattern[str] | None:
    """Compiles an identity pattern.

    Raises:
        ValueError: it is not a regular expression, or has no group.
    """
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"identity pattern {text!r} is not a regular expression: {error}") from error
    if not pattern.groups:
        raise ValueError(f"identity pattern {text!r} needs a group, as in '^(id[0-9]+)'")
    return pattern


def identity_in_path(path: PurePath, pattern: re.Pattern[str] | None) -> str:
    """The identity by a file's path below its collection's folder; see `FolderSource.identity_pattern`.

    Raises:
        ValueError: the pattern does not match, or captures nothing.
    """
    if pattern is None:
        return path.parts[0] if len(path.parts) > 1 else path.stem
    match = pattern.search(path.as_posix())
    identity = match and (match.group("identity") if "identity" in pattern.groupindex else match.group(1))
    if not identity:
        raise ValueError(f"identity pattern {pattern.pattern!r} captures no identity in {path.as_posix()!r}")
    return identity

"""Where footage comes from. A source is one short file: a class with a `name` and a `files()`; `open_source` finds it.

To add one, write the class next to `folder.py` and give it a line in `open_source`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage, Source
from data_prep.sources.identities import NamedByTable
from data_prep.sources.synthetic import SyntheticSource
from data_prep.sources.voxceleb2 import VoxCeleb2Source

__all__ = [
    "FolderSource",
    "Footage",
    "NamedByTable",
    "Source",
    "SyntheticSource",
    "VoxCeleb2Source",
    "open_source",
]


_VOXCELEB2 = "voxceleb2:"


def open_source(
    text: str,
    *,
    render_folder: Path,
    identity_pattern: str | None = None,
    identities: Path | None = None,
    licence: str | None = None,
) -> Source:
    """The source that a command line names.

    Args:
        text: a folder (or one video file), `voxceleb2:FOLDER`, or `synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST]`.
        render_folder: where synthetic footage is rendered to.
        identity_pattern: see `FolderSource`.
        identities: see `NamedByTable`; for folders.
        licence: kept in every row's provenance.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the text or the pattern is malformed, or two things say who is in a file.
    """
    is_folder = not text.startswith(("synthetic:", _VOXCELEB2))
    if identity_pattern is not None and (identities is not None or not is_folder):
        raise ValueError("an identity pattern is for folders, and does not go with a table of identities")
    if identities is not None and not is_folder:
        raise ValueError(f"a table of identities is for folders: {text} knows its own")
    if text.startswith("synthetic:"):
        return SyntheticSource.parse(text, render_folder)
    if text.startswith(_VOXCELEB2):
        source = VoxCeleb2Source(folder=Path(text.removeprefix(_VOXCELEB2)))
        return source if licence is None else replace(source, licence=licence)
    folder = Path(text)
    if identities is not None:
        root = folder if folder.is_dir() else folder.parent
        return NamedByTable(source=FolderSource(folder=folder, licence=licence), root=root, table=identities)
    return FolderSource(folder=Path(text), identity_pattern=identity_pattern, licence=licence)

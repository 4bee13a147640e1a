"""Where footage comes from. A source is one short file: a class with a `name` and a `files()`; `open_source` finds it.

To add one, write the class next to `folder.py` and give it a line in `open_source`.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Footage, Source
from data_prep.sources.synthetic import SyntheticSource

__all__ = ["FolderSource", "Footage", "Source", "SyntheticSource", "open_source"]


def open_source(
    text: str, *, render_folder: Path, identity_pattern: str | None = None, licence: str | None = None
) -> Source:
    """The source that a command line names.

    Args:
        text: a folder (or one video file), or `synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST]`.
        render_folder: where synthetic footage is rendered to.
        identity_pattern: see `FolderSource`.
        licence: kept in every row's provenance.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the text or the pattern is malformed.
    """
    if text.startswith("synthetic:"):
        return SyntheticSource.parse(text, render_folder)
    return FolderSource(folder=Path(text), identity_pattern=identity_pattern, licence=licence)

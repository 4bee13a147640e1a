"""Sources of footage. Each is a short file with a class that has a `name` and a method `files()`.

To add one, write the class next to `folder.py` and add it to `open_source`. Classes are imported from their modules.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.sources.folder import FolderSource
from data_prep.sources.footage import Source
from data_prep.sources.hdtf import HDTFSource
from data_prep.sources.identities import NamedByTable
from data_prep.sources.photos import DEFAULT_PHOTOS, PhotoSettings, PhotoSource
from data_prep.sources.synthetic import SyntheticSource
from data_prep.sources.voxceleb2 import VoxCeleb2Source
from data_prep.sources.webdataset import WebDatasetSource

_VOXCELEB2 = "voxceleb2:"
_HDTF = "hdtf:"
_WEBDATASET = "webdataset:"
_PHOTOS = "photos:"


def open_source(
    text: str,
    *,
    render_folder: Path,
    identity_pattern: str | None = None,
    identities: Path | None = None,
    licence: str | None = None,
    photos: PhotoSettings = DEFAULT_PHOTOS,
) -> Source:
    """The source that a command line asks for.

    Args:
        text: a folder (or one video file), `voxceleb2:FOLDER`, `hdtf:FOLDER`, `webdataset:SHARDS`,
            `photos:FOLDER` for talking heads made of photographs, or `synthetic:IDENTITIESxCLIPSxSECONDS[@FIRST]`.
        render_folder: where synthetic footage is rendered to.
        identity_pattern: see `FolderSource`.
        identities: see `NamedByTable`; for folders only.
        licence: licence of the footage, stored with every clip.
        photos: how photographs become talking heads.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the text or the pattern is malformed, or more than one option names the identities.
    """
    names_people = text.startswith(("synthetic:", _VOXCELEB2, _HDTF, _PHOTOS))
    if identity_pattern is not None and (identities is not None or names_people):
        raise ValueError(
            "an identity pattern works for folders and shards only, and not together with a table of identities"
        )
    if identities is not None and (names_people or text.startswith(_WEBDATASET)):
        raise ValueError(f"a table of identities works for folders only; {text} has identities of its own")
    own = {} if licence is None else {"licence": licence}
    if text.startswith("synthetic:"):
        return SyntheticSource.parse(text, render_folder)
    if text.startswith(_PHOTOS):
        return PhotoSource.configured(
            Path(text.removeprefix(_PHOTOS)), photos, render_folder / "photos", licence
        )
    if text.startswith(_VOXCELEB2):
        return VoxCeleb2Source(folder=Path(text.removeprefix(_VOXCELEB2)), **own)
    if text.startswith(_HDTF):
        return HDTFSource(folder=Path(text.removeprefix(_HDTF)), **own)
    if text.startswith(_WEBDATASET):
        shards = text.removeprefix(_WEBDATASET)
        return WebDatasetSource(shards=shards, identity_pattern=identity_pattern, licence=licence)
    folder = FolderSource(folder=Path(text), identity_pattern=identity_pattern, licence=licence)
    if identities is None:
        return folder
    root = folder.folder if folder.folder.is_dir() else folder.folder.parent
    return NamedByTable(source=folder, root=root, table=identities)

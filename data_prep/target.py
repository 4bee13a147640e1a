"""Where a run writes: paths and URIs, files that are complete or absent, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from portrait.storage import fragments

UNCHANGED = "the table is unchanged"
"""State of the table after an error before the commit …"""
GROWN = "the new clips are in the table"
"""… and after it."""
_TEST_BYTES = 4096
_LANCE_SOURCE = re.compile(r",? ?/[^ ]*\.rs:[0-9]+.*", re.DOTALL)
"""The position in Lance's own sources at the end of its errors, which means nothing to users."""
_LANCE_ERRNO = re.compile(r"\(os error ([0-9]+)\)")
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT))


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a plain path or a URI, and the path on it."""
    return fs.FileSystem.from_uri(uri if "://" in uri else str(Path(uri).absolute()))


def write_text(filesystem: fs.FileSystem, path: str, text: str) -> None:
    """Writes a file under a temporary name and then renames it, so that readers never see half of it."""
    try:
        with filesystem.open_output_stream(f"{path}.part") as stream:
            stream.write(text.encode())
        filesystem.move(f"{path}.part", path)
    except OSError:
        with contextlib.suppress(OSError):
            filesystem.delete_file(f"{path}.part")
        raise


def check_writable(uri: str) -> None:
    """Creates the folder that the table goes into and writes a little there, before any work is done in vain.

    Raises:
        ValueError: the place holds something else, or cannot be written; object stores are not tried.
    """
    fragments.check_target(uri)
    filesystem, path = open_filesystem(uri)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        raise ValueError(f"{uri} is a file; expected a folder, or nothing, where the clips table goes")
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    with writing(uri):
        parent = Path(path).parent
        parent.mkdir(parents=True, exist_ok=True)
        for folder in (parent, Path(path)):
            if folder.is_dir():
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(bytes(_TEST_BYTES))


@contextmanager
def writing(uri: str, state: str = UNCHANGED) -> Iterator[None]:
    """Turns an `OSError` within into a `ValueError` that says what to do.

    Args:
        uri: what is being written.
        state: what has become of the table if that fails.

    Raises:
        ValueError: for every OSError.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(cannot_write(uri, error, state)) from error


def cannot_write(uri: str, error: OSError, state: str = UNCHANGED) -> str:
    """Message for a failed write: what, why, what to do about it, and the state of the table."""
    text = _LANCE_SOURCE.sub("", str(error))
    from_lance = _LANCE_ERRNO.search(text)
    number = int(from_lance[1]) if from_lance else error.errno or 0
    reason = os.strerror(number) if number else " ".join(text.split())
    where = "" if error.filename is None or from_lance else f" at {error.filename}"
    if number in _NO_SPACE:
        advice = "free some space and run the command again, it resumes where it stopped"
    else:
        advice = "fix this or choose another place for the clips table, and run the command again"
    return f"{uri} cannot be written: {reason}{where}; {advice} ({state})"

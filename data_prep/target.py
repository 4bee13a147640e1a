"""Where a run writes: the place is tried before any work, and what goes wrong there later is told in words."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from data_prep.ledger import open_filesystem
from portrait.storage import fragments

UNCHANGED = "the table is as it was before"
"""What becomes of the table where an error comes before the commit …"""
GROWN = "the new clips are in the table"
"""… and where it comes after it."""
_TRIED_BYTES = 4096
_LANCE_PLACE = re.compile(r",? ?/[^ ]*\.rs:[0-9]+.*", re.DOTALL)
"""Where in its own sources Lance met an error: nothing a user could use."""
_LANCE_NUMBER = re.compile(r"\(os error ([0-9]+)\)")
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def check_place(uri: str) -> None:
    """Makes the folder that the table goes into and writes a little there, so that no work is done for nothing.

    Raises:
        ValueError: something else is there, or the place cannot be written; object stores are not tried.
    """
    fragments.check_target(uri)
    filesystem, path = open_filesystem(uri)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        raise ValueError(f"{uri} is a file, expected a folder or nothing where the clips table goes")
    if not isinstance(filesystem, fs.LocalFileSystem):
        return
    with writing(uri):
        parent = Path(path).parent
        parent.mkdir(parents=True, exist_ok=True)
        for folder in (parent, Path(path)):
            if folder.is_dir():
                with tempfile.TemporaryFile(dir=folder) as file:
                    file.write(bytes(_TRIED_BYTES))


@contextmanager
def writing(uri: str, state: str = UNCHANGED) -> Iterator[None]:
    """Turns an error of the place that is written to into one that says what to do.

    Args:
        uri: what is written.
        state: what has become of the table.

    Raises:
        ValueError: for every OSError within.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(cannot_write(uri, error, state)) from error


def cannot_write(uri: str, error: OSError, state: str = UNCHANGED) -> str:
    """The words for an error of a place: which, why, what to do, and what has become of the table."""
    text = _LANCE_PLACE.sub("", str(error))
    told = _LANCE_NUMBER.search(text)
    number = int(told[1]) if told else error.errno or 0
    reason = os.strerror(number) if number else " ".join(text.split())
    where = "" if error.filename is None or told else f" at {error.filename}"
    if number in _FULL:
        advice = "make room there and run it again, it goes on from what is done"
    else:
        advice = "mend that or give another place for the clips table, and run it again"
    return f"{uri} cannot be written: {reason}{where}; {advice} ({state})"

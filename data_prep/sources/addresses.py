"""Files behind addresses that fsspec reads (http, s3, …), with the errors of files on a disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec


@contextmanager
def open_address(path: str) -> Iterator[BinaryIO]:
    """A file here or behind an address, for reading anywhere in it.

    Raises:
        OSError: it cannot be opened; reading raises it too, whatever the address's package raises.
        ImportError: its kind of address needs another package; the error names it.
    """
    if "://" not in path:
        with Path(path).open("rb") as file:
            yield file
        return
    # fsspec's own annotation says that this may be a list of files, which it is for open_files alone.
    opened = cast("Any", fsspec.open(path, "rb"))
    file = _told_as_oserror(opened.open)
    try:
        yield cast("BinaryIO", _Remote(file))
    finally:
        file.close()


class _Remote(io.BufferedIOBase):
    """A file of fsspec's: its packages raise errors of their own (`aiohttp.ClientError`, `botocore`'s)."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int | None = -1) -> bytes:
        return _told_as_oserror(self._file.read, -1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return _told_as_oserror(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _told_as_oserror(work: Any, *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error

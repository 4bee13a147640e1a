"""Files at paths or URLs that fsspec reads (http, s3, …), with the errors of local files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec


@contextmanager
def open_address(path: str) -> Iterator[BinaryIO]:
    """Opens a local file or a URL for reading, with random access.

    Raises:
        OSError: the file cannot be opened; later reads raise it too, whatever the underlying package raises.
        ImportError: this kind of URL needs a package that is not installed; the error names it.
    """
    if "://" not in path:
        with Path(path).open("rb") as file:
            yield file
        return
    # By fsspec's annotation this may be a list of files, but only open_files returns one.
    opened = cast("Any", fsspec.open(path, "rb"))
    file = _raising_oserror(opened.open)
    try:
        yield cast("BinaryIO", _Remote(file))
    finally:
        file.close()


class _Remote(io.BufferedIOBase):
    """A file opened by fsspec, whose packages raise errors of their own (`aiohttp.ClientError`, for example)."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int | None = -1) -> bytes:
        return _raising_oserror(self._file.read, -1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return _raising_oserror(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _raising_oserror(work: Any, *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error

"""One run at a time writes a table: a second one would take the first one's work for that of a killed run.

The lock is a small file beside the table that says who holds it. Its holder writes it anew every minute, so that one
whose holder was killed, or whose machine is gone, ends by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyarrow import fs

from data_prep.ledger import open_filesystem, write_text
from data_prep.target import writing

BEAT_SECONDS = 60.0
"""How often the holder writes the lock anew …"""
DEAD_AFTER_SECONDS = 600.0
"""… and after how long without that it is taken for dead, where its process cannot be asked."""


@contextmanager
def exclusive(uri: str) -> Iterator[None]:
    """Holds a table for this process.

    Args:
        uri: the table, which need not be there yet; its folder must.

    Raises:
        ValueError: another run holds it.
    """
    path = f"{uri.rstrip('/')}.lock"
    filesystem, place = open_filesystem(path)
    own = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
    with writing(uri):
        _take(filesystem, place, path, own)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a store that is away for a moment
                write_text(filesystem, place, json.dumps({**own, "time": time.time()}))

    thread = threading.Thread(target=beat, name="table lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            filesystem.delete_file(place)


def _take(filesystem: fs.FileSystem, place: str, path: str, own: dict[str, Any]) -> None:
    held = _read(filesystem, place)
    if held is not None and _lives(held):
        raise ValueError(
            f"{path.removesuffix('.lock')}: another run (process {held['pid']} on {held['host']}) is writing this "
            f"table: wait for its end (if it was killed elsewhere, {DEAD_AFTER_SECONDS / 60:.0f} minutes, or remove "
            f"{path})"
        )
    if held is not None:
        with contextlib.suppress(OSError):
            filesystem.delete_file(place)
    text = json.dumps({**own, "time": time.time()})
    if isinstance(filesystem, fs.LocalFileSystem):
        try:
            with Path(place).open("x") as file:  # the system lets one of two succeed
                file.write(text)
        except FileExistsError:
            pass
        except OSError:  # a full disk: no lock must stay that nobody holds
            Path(place).unlink(missing_ok=True)
            raise
    else:
        write_text(filesystem, place, text)
    now = _read(filesystem, place)
    if now is None or now["id"] != own["id"]:
        raise ValueError(
            f"{path.removesuffix('.lock')}: another run began to write this table at the same moment"
        )


def _read(filesystem: fs.FileSystem, place: str) -> dict[str, Any] | None:
    info = filesystem.get_file_info(place)
    if info.type != fs.FileType.File:
        return None
    try:
        with filesystem.open_input_stream(place) as stream:
            return json.loads(stream.read())
    except FileNotFoundError:  # its holder has just ended
        return None
    except ValueError:  # killed in the midst of writing it
        return {"host": "an unknown machine", "pid": 0, "id": "", "time": (info.mtime_ns or 0) / 1e9}


def _lives(held: dict[str, Any]) -> bool:
    if time.time() - held["time"] > DEAD_AFTER_SECONDS:
        return False
    if held["host"] != socket.gethostname():
        return True
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

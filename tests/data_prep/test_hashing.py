import hashlib
import os
import shutil
from pathlib import Path

import pytest

from data_prep.hashing import hash_files
from data_prep.sources.folder import FolderSource


def test_what_is_no_readable_file_is_named_and_stops_nothing(tmp_path, ray_session):
    (tmp_path / "a film.mp4").write_bytes(b"film")
    (tmp_path / os.fsdecode(b"not \xff text.mp4")).write_bytes(b"film too")
    (tmp_path / "link.mp4").symlink_to("gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    hashed, rejects = hash_files(FolderSource(folder=tmp_path).files())
    assert [(Path(file.path).name, content) for file, content in hashed] == [
        ("a film.mp4", hashlib.sha256(b"film").hexdigest())
    ]
    assert {Path(reject.path).name: reject.reason for reject in rejects} == {
        "not \N{REPLACEMENT CHARACTER} text.mp4": "the file name is not valid UTF-8; rename the file",
        "link.mp4": "cannot be read: No such file or directory",
        "pipe.mp4": "cannot be read: not a regular file",
    }


def test_a_folder_of_nothing_but_unreadable_names(tmp_path, ray_session):
    (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
    hashed, (reject,) = hash_files(FolderSource(folder=tmp_path).files())
    assert hashed == []
    assert reject.reason == "the file name is not valid UTF-8; rename the file"


@pytest.mark.parametrize("known", ["original", "copy"])
def test_a_stream_copy_counts_as_the_file_it_was_copied_from(
    heads, stream_copy, tmp_path, ray_session, known
):
    """Under two names, so that one could land in training and the other in the test."""
    alice, bob = tmp_path / "alice" / "talk.mp4", tmp_path / "bob" / "talk.mkv"
    for path in (alice, bob):
        path.parent.mkdir()
    shutil.copy(heads[0], alice)
    stream_copy(alice, bob)
    files = FolderSource(folder=tmp_path).files()
    kept = hashlib.sha256((alice if known == "original" else bob).read_bytes()).hexdigest()
    hashed, rejects = hash_files(files, [kept])
    assert rejects == []
    assert [(file.identity, content) for file, content in hashed] == [("alice", kept), ("bob", kept)]

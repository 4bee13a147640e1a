"""Tests of data_prep.sources.webdataset, on shards that the webdataset package writes."""

import functools
import hashlib
import http.server
import tarfile
import threading
from pathlib import Path

import pytest
import webdataset

from data_prep.hashing import hash_files
from data_prep.sources import open_source
from data_prep.sources.webdataset import WebDatasetSource

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "raw-%02d.tar"), maxcount=2, verbose=0) as writer:
        writer.write({"__key__": "ann/1", "mp4": b"first", "json": {"identity": "ann", "split": "test"}})
        writer.write({"__key__": "ann/2", "mkv": b"second", "txt": "words"})
        writer.write({"__key__": "bob/1", "mp4": b"third", "json": {"licence": "CC0"}})
        writer.write({"__key__": "cem/1", "jpg": b"no video"})
    return folder


EXPECTED = [
    ("ann/1.mp4", "ann", "test", None, b"first"),
    ("ann/2.mkv", "ann", None, None, b"second"),
    ("bob/1.mp4", "bob", None, "CC0", b"third"),
]


def listed(files):
    return [(f.member, f.identity, f.split, f.licence, f.media()) for f in files]


def test_samples_with_a_video_are_read_where_they_lie(shards, tmp_path):
    for text in (str(shards), f"{shards}/raw-{{00..01}}.tar"):
        source = open_source(f"webdataset:{text}", render_folder=tmp_path)
        files = source.files()
        assert source.name == "raw"
        assert listed(files) == EXPECTED
        assert files[0].content_hash() == hashlib.sha256(b"first").hexdigest()
        assert files[0].label == f"{shards}/raw-00.tar: ann/1.mp4"


def test_shards_behind_an_address(shards):
    handler = functools.partial(_Ranges, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        files = WebDatasetSource(shards=f"{base}/raw-{{00..01}}.tar").files()
        assert listed(files) == EXPECTED
        with pytest.raises(ValueError, match=r"raw-07\.tar: cannot be read any further"):
            WebDatasetSource(shards=f"{base}/raw-07.tar").files()
        server.shutdown()


@pytest.mark.parametrize("what", ["an error of the server", "fewer bytes than were promised"])
def test_what_cannot_be_read_behind_an_address_is_rejected(shards, what):
    handler = functools.partial(_Ranges, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        files = WebDatasetSource(shards=f"http://127.0.0.1:{server.server_port}/raw-00.tar").files()
        if what == "an error of the server":
            server.RequestHandlerClass = functools.partial(_Ranges, directory=str(shards), broken=True)
        else:
            (shards / "raw-00.tar").write_bytes((shards / "raw-00.tar").read_bytes()[:700])
        hashed, rejects = hash_files(files)
        server.shutdown()
    assert hashed == []
    assert len(rejects) == 2
    assert all(reject.reason.startswith("cannot be read: ") for reject in rejects)


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Python's own server does not know byte ranges, which any store of shards does."""

    def __init__(self, *args, broken=False, **kwargs):
        self.broken = broken
        super().__init__(*args, **kwargs)

    def do_GET(self):
        if self.broken:
            return self.send_error(503)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        wanted = self.headers.get("Range")
        start, _, end = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(start) : int(end or len(content) - 1) + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def log_message(self, *args):
        pass


def test_identity_from_a_pattern_where_a_sample_does_not_say(shards):
    files = WebDatasetSource(shards=str(shards), identity_pattern="([0-9])").files()
    assert [file.identity for file in files] == ["ann", "2", "1"]


def test_shards_that_cannot_be_used(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no shards at .*nowhere"):
        WebDatasetSource(shards=str(tmp_path / "nowhere")).files()
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(shards / "raw-00.tar")
    with pytest.raises(
        ValueError, match=r"packed\.tar: cannot be read any further, damaged or not an uncompressed tar"
    ):
        WebDatasetSource(shards=str(tmp_path / "packed.tar")).files()
    for name, sample, message in (
        ("ready", {"mp4": b"x", "flac": b"y"}, "jobs.import_shards"),
        ("none", {"txt": "words"}, "no sample with a video"),
    ):
        with webdataset.TarWriter(str(tmp_path / f"{name}.tar")) as writer:
            writer.write({"__key__": "a", **sample})
        with pytest.raises(ValueError, match=message):
            WebDatasetSource(shards=str(tmp_path / f"{name}.tar")).files()


def test_every_video_is_listed_whatever_points_are_in_its_name(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write(
            {"__key__": "talk", "v2.mp4": b"1", "mp4": b"2", "mkv": b"3", "json": {"identity": "ann"}}
        )
        writer.write({"__key__": "2024", "01.02.mp4": b"4", "01.02.json": {"identity": "bob"}})
    files = WebDatasetSource(shards=str(tmp_path / "a.tar")).files()
    assert {(file.member, file.identity, file.media()) for file in files} == {
        ("talk.v2.mp4", "ann", b"1"),
        ("talk.mp4", "ann", b"2"),
        ("talk.mkv", "ann", b"3"),
        ("2024.01.02.mp4", "bob", b"4"),
    }


def test_what_is_wrong_with_a_shard_or_a_sample_is_a_reject_and_the_others_are_read(shards, tmp_path):
    whole = (shards / "raw-00.tar").read_bytes()
    (shards / "raw-02.tar").write_bytes(whole[: whole.index(b"second") + 2])
    samples = {"odd": b'{"split": "holiday"}', "list": b"[1]", "torn": b'{"identity": '}
    with webdataset.TarWriter(str(shards / "raw-03.tar")) as writer:
        for key, said in samples.items():
            writer.write({"__key__": key, "mp4": b"x" + key.encode(), "json": said})
        writer.write({"__key__": "good", "mp4": b"fifth"})
    hashed, rejects = hash_files(WebDatasetSource(shards=str(shards)).files())
    assert [file.member for file, _ in hashed][:4] == ["ann/1.mp4", "ann/2.mkv", "bob/1.mp4", "ann/1.mp4"]
    assert hashed[-1][0].member == "good.mp4"
    reasons = {reject.path.rpartition("/")[2]: reject.reason for reject in rejects}
    assert reasons.pop("raw-02.tar").startswith(
        "cannot be read any further, damaged or not an uncompressed tar file"
    )
    assert reasons.pop("raw-03.tar: odd.mp4") == "the JSON has split 'holiday', expected train, val, test"
    assert reasons.pop("raw-03.tar: list.mp4") == "the JSON is not an object with identity, split or licence"
    assert reasons.pop("raw-03.tar: torn.mp4").startswith("invalid JSON")
    # The member in which the shard breaks off, if its header is whole.
    assert all("truncated" in reason for reason in reasons.values())

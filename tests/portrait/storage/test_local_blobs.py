"""What lies on a local disk is read where it lies, and is the same as Lance reads; what is not there, Lance reads."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from portrait.storage import fragments, local_blobs
from portrait.storage.local_blobs import LocalBlobs, is_local

SCHEMA = pa.schema(
    [
        pa.field("name", pa.int32()),
        # Small blobs lie in the data file, larger ones together in another, the largest each in one of its own.
        lance.blob_field(
            "blob", inline_size_threshold=100, dedicated_size_threshold=10_000, pack_file_size_threshold=4_000
        ),
    ]
)
SIZES = (50, 3_000, 20_000, 99, 2_000, 30_000, 0, 5_000)
BLOBS = [bytes([17 * i % 251] * size) for i, size in enumerate(SIZES, 1)]


def write(uri: str, blobs: Sequence[bytes | None]) -> lance.LanceDataset:
    columns = [pa.array(range(len(blobs)), pa.int32()), lance.blob_array(list(blobs))]
    batch = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return fragments.commit(uri, SCHEMA, fragments.write_fragments(uri, SCHEMA, [batch]))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def by_lance(dataset: lance.LanceDataset) -> list[bytes | None]:
    indices = list(range(dataset.count_rows()))
    return [data for _, data in dataset.read_blobs("blob", indices=indices, preserve_order=True)]


def everything(blobs: LocalBlobs, dataset: lance.LanceDataset) -> list[bytes | None]:
    return [blobs.read(index) for index in range(dataset.count_rows())]


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "t.lance")


def test_every_kind_of_blob_is_found_without_lance(uri, monkeypatch):
    write(uri, BLOBS)
    dataset = write(uri, BLOBS[::-1])
    blobs = LocalBlobs(dataset, "blob")
    monkeypatch.setattr(lance.LanceDataset, "read_blobs", None)
    assert everything(blobs, dataset) == BLOBS + BLOBS[::-1]


def test_rows_that_are_deleted_are_not_counted(uri):
    write(uri, BLOBS)
    dataset = write(uri, BLOBS[::-1])
    dataset.delete("name in (1, 2)")
    dataset.add_columns(pa.schema([pa.field("later", pa.int32())]))
    kept = [BLOBS[i] for i in (0, 3, 4, 5, 6, 7)] + [BLOBS[::-1][i] for i in (0, 3, 4, 5, 6, 7)]
    assert everything(LocalBlobs(dataset, "blob"), dataset) == kept == by_lance(dataset)


def test_other_processes_open_their_own_files(uri):
    dataset = write(uri, BLOBS)
    blobs = LocalBlobs(dataset, "blob")
    assert everything(blobs, dataset) == BLOBS
    assert everything(pickle.loads(pickle.dumps(blobs)), dataset) == BLOBS


def test_a_table_without_rows(uri):
    dataset = write(uri, BLOBS)
    dataset.delete("name >= 0")
    assert everything(LocalBlobs(dataset, "blob"), dataset) == []


def test_a_missing_blob_is_left_to_lance(uri):
    dataset = write(uri, [None, b"there"])
    assert everything(LocalBlobs(dataset, "blob"), dataset) == [None, b"there"]
    assert by_lance(dataset) == [None, b"there"]


def test_a_file_with_other_bytes_is_left_to_lance(uri, monkeypatch):
    dataset = write(uri, BLOBS[:2])
    monkeypatch.setattr(
        local_blobs, "_path", lambda data_file, *_: data_file
    )  # as if all were in the data file
    assert everything(LocalBlobs(dataset, "blob"), dataset) == [BLOBS[0], None]


def test_files_with_other_names_are_left_to_lance(uri, monkeypatch):
    dataset = write(uri, BLOBS[:2])
    monkeypatch.setattr(local_blobs, "_path", lambda data_file, *_: data_file.with_name("other"))
    assert everything(LocalBlobs(dataset, "blob"), dataset) == [None, None]


def test_a_table_elsewhere_is_not_local(tmp_path, uri):
    assert is_local(write(uri, BLOBS))
    assert not is_local(lance.dataset(f"file://{tmp_path}/t.lance"))


def test_a_file_that_became_shorter_is_left_to_lance(uri, tmp_path):
    dataset = write(uri, [b"a" * 1_000, b"b" * 1_000])
    blobs = LocalBlobs(dataset, "blob")
    assert blobs.read(0) == b"a" * 1_000
    (packed,) = (tmp_path / "t.lance" / "data").rglob("*.blob")
    packed.write_bytes(packed.read_bytes()[:1_500])
    assert blobs.read(1) is None


def test_more_files_than_are_kept_open(uri, monkeypatch):
    monkeypatch.setattr(local_blobs, "MAX_OPEN_FILES", 2)
    for i in range(6):
        dataset = write(uri, [bytes([i]) * 1_000])
    blobs = LocalBlobs(dataset, "blob")
    before = open_files()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(blobs.read, list(range(6)) * 50))
    assert read == [bytes([i]) * 1_000 for i in range(6)] * 50
    assert open_files() <= before + 2
    del blobs
    assert open_files() < before, "without the help of the collector of cycles"


def test_a_table_that_was_moved_while_open(uri, tmp_path):
    write(uri, [b"a" * 1_000])
    dataset = write(uri, [b"b" * 1_000])
    blobs = LocalBlobs(dataset, "blob")
    shutil.move(uri, tmp_path / "elsewhere.lance")
    assert blobs.read(1) is None

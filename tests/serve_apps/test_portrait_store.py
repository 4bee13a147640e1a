import numpy as np
import pytest

from serve_apps.portrait_store import PortraitStore, StoredPortrait


def stored(portrait_id: str, owner: str = "", created: str = "2025-01-01") -> StoredPortrait:
    rng = np.random.default_rng(int(portrait_id, 16))
    return StoredPortrait(
        portrait_id=portrait_id,
        owner=owner,
        name="someone",
        created=created,
        consent={"statement": "yes", "time": created},
        pictures=rng.integers(0, 256, (2, 16, 16, 3), np.uint8),
        vae_version="v1",
        features={"reference_features": rng.random((2, 3, 4, 4), np.float32)},
    )


@pytest.fixture
def store(tmp_path) -> PortraitStore:
    return PortraitStore(str(tmp_path / "with space" / "portraits.lance"))


ONE, TWO = "00000000000000a1", "00000000000000b2"


def test_what_was_put_comes_back_to_the_bit(store):
    store.put(stored(ONE))
    found = store.get(ONE, "")
    assert found is not None
    np.testing.assert_array_equal(found.pictures, stored(ONE).pictures)
    np.testing.assert_array_equal(
        found.features["reference_features"], stored(ONE).features["reference_features"]
    )
    assert (found.consent, found.vae_version) == ({"statement": "yes", "time": "2025-01-01"}, "v1")


def test_an_empty_store_has_nothing(store):
    assert store.list("") == []
    assert store.get(ONE, "") is None
    assert not store.delete(ONE, "")


def test_putting_twice_leaves_one_row_and_lists_go_by_age(store):
    store.put(stored(TWO, created="2025-02-02"))
    store.put(stored(ONE, created="2025-01-01"))
    store.put(stored(ONE, created="2025-01-01"))
    assert [(row["portrait_id"], row["images"]) for row in store.list("")] == [(ONE, 2), (TWO, 2)]


def test_an_owner_sees_and_deletes_only_its_own(store):
    store.put(stored(ONE, owner="alice"))
    store.put(stored(TWO, owner="bob"))
    assert [row["portrait_id"] for row in store.list("alice")] == [ONE]
    assert store.get(TWO, "alice") is None
    assert not store.delete(TWO, "alice")
    assert store.holds(TWO, "bob")


def test_a_deleted_portrait_is_gone_from_the_disk(store, tmp_path):
    marked = stored(ONE)
    marked.features["reference_features"][:] = 123456.78
    needle = np.full(8, 123456.78, np.float32).tobytes()
    on_disk = lambda: any(needle in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())  # noqa: E731
    store.put(stored(TWO))
    store.put(marked)
    assert on_disk()
    assert store.delete(ONE, "")
    assert not on_disk()
    assert store.holds(TWO, "")


@pytest.mark.parametrize("name", ["' OR '1'='1", "", "A" * 16, "00000000000000a1 "])
def test_an_id_that_we_did_not_draw_finds_nothing(store, name):
    store.put(stored(ONE))
    assert store.get(name, "") is None
    assert not store.delete(name, "")
    assert store.holds(ONE, "")

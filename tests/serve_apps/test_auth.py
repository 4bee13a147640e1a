import pytest

from serve_apps.auth import ApiKeys, bearer_key
from serve_apps.errors import ApiError


def test_without_keys_everyone_is_the_same_owner():
    keys = ApiKeys()
    assert not keys.required
    assert keys.owner_of(None) == keys.owner_of("anything") == ""


def test_a_key_gives_its_own_owner_and_anything_else_is_refused():
    keys = ApiKeys(("alice", "bob"))
    assert keys.required
    assert keys.owner_of("alice") == keys.owner_of("alice") != keys.owner_of("bob")
    assert "alice" not in keys.owner_of("alice")
    for wrong in (None, "", "eve", "alice ", "Alice"):
        with pytest.raises(ApiError, match="API key") as caught:
            keys.owner_of(wrong)
        assert (caught.value.code, caught.value.status) == ("unauthorised", 401)


def test_keys_of_arguments_and_environment_are_joined(monkeypatch):
    monkeypatch.setenv("PORTRAIT_API_KEYS", " b, ,a,c")
    keys = ApiKeys.configured(("a",))
    assert len({keys.owner_of(key) for key in "abc"}) == 3
    with pytest.raises(ApiError):
        keys.owner_of("")
    monkeypatch.delenv("PORTRAIT_API_KEYS")
    assert not ApiKeys.configured(()).required


def test_the_key_is_taken_from_a_bearer_header_only():
    assert bearer_key("Bearer abc") == "abc"
    assert bearer_key("bearer  abc ") == "abc"
    assert bearer_key("Basic abc") is None
    assert bearer_key(None) is None

from serve_apps.router import Pins


def test_sessions_spread_and_stay_when_a_replica_is_added():
    pins = Pins()
    first = {f"s{i}": pins.choose(f"s{i}", ["a", "b"]) for i in range(12)}
    assert sorted(first.values()) == ["a"] * 6 + ["b"] * 6
    assert {name: pins.choose(name, ["a", "b", "c"]) for name in first} == first
    assert pins.choose("new", ["a", "b", "c"]) == "c"


def test_only_the_sessions_of_a_lost_replica_move():
    pins = Pins()
    first = {f"s{i}": pins.choose(f"s{i}", ["a", "b", "c"]) for i in range(9)}
    then = {name: pins.choose(name, ["a", "c"]) for name in first}
    assert all(then[name] == replica for name, replica in first.items() if replica != "b")
    assert set(then.values()) == {"a", "c"}


def test_a_closed_session_no_longer_counts():
    pins = Pins()
    for i in range(4):
        pins.choose(f"s{i}", ["a", "b"])
        pins.forget(f"s{i}")
    assert not pins._replica_of
    pins.forget("never seen")

from collections import Counter

import pytest

from data_prep.splits import Splits, assign, position

PEOPLE = [f"id{i:05d}" for i in range(2000)]


def test_shares_and_stability_under_growth():
    all_at_once = assign(PEOPLE, Splits(val=0.1, test=0.2), {})
    counts = Counter(all_at_once.values())
    assert counts["val"] == pytest.approx(200, abs=45)
    assert counts["test"] == pytest.approx(400, abs=60)
    early = assign(PEOPLE[:500], Splits(val=0.1, test=0.2), {})
    assert {name: all_at_once[name] for name in early} == early


def test_positions_are_even():
    places = sorted(position(name) for name in PEOPLE)
    assert max(abs(place - i / len(places)) for i, place in enumerate(places)) < 0.05


@pytest.mark.parametrize("people", [1, 2])
def test_one_or_two_people_always_leave_someone_to_train_on(people):
    for start in range(0, 200, people):
        assert "train" in assign(PEOPLE[start : start + people], Splits(), {}).values()


def test_from_three_people_on_every_wanted_split_has_someone():
    for start in range(0, 300, 3):
        group = PEOPLE[start : start + 3]
        assert set(assign(group, Splits(), {}).values()) == {"train", "val", "test"}
        assert set(assign(group, Splits(test=0), {}).values()) == {"train", "val"}
        assert set(assign(group, Splits(val=0, test=0), {}).values()) == {"train"}


def test_who_has_a_split_keeps_it():
    known = {"a": "test", "b": "val"}
    assigned = assign(["a", "b", "c"], Splits(), known)
    assert {name: assigned[name] for name in known} == known
    assert assigned["c"] == "train"


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (0.5, 0.5), (0, 1.0)])
def test_shares_out_of_range(val, test):
    with pytest.raises(ValueError, match="splits"):
        Splits(val=val, test=test)


def test_who_may_not_be_tested_on_trains_instead():
    people = [f"p{i}" for i in range(2000)]
    drawn, kept = assign(people, Splits(), {}), assign(people, Splits(), {}, never_test=set(people[:1500]))
    assert "test" not in {kept[name] for name in people[:1500]}
    assert {kept[name] for name in people[:1500] if drawn[name] == "test"} == {"train"}
    others = [name for name in people if name in people[1500:] or drawn[name] != "test"]
    assert {name: kept[name] for name in others} == {name: drawn[name] for name in others}
    # Not even where a split would be left without anyone.
    assert "test" not in assign(people[:3], Splits(), {}, never_test=people).values()
    # But what a table says already stays.
    assert assign(["a"], Splits(), {"a": "test"}, never_test=["a"]) == {"a": "test"}

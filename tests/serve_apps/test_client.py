import pytest

from serve_apps.client import stalls_of


def test_a_player_that_is_always_fed_never_stalls():
    assert stalls_of([1.0, 1.5, 2.0], [0.52, 0.64, 0.64]) == (0, 0.0)


def test_a_late_block_is_a_stall_of_what_was_missing_and_moves_what_follows():
    # Plays 0.5 … 1.0, runs dry until 1.4, plays until 2.0; the third block came in time for that.
    stalls, stalled = stalls_of([0.5, 1.4, 1.9], [0.5, 0.6, 0.6])
    assert stalls == 1
    assert stalled == pytest.approx(0.4)


def test_nothing_came():
    assert stalls_of([], []) == (0, 0.0)

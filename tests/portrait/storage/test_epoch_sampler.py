from itertools import chain, islice

import pytest

from portrait.storage.epoch_sampler import Draw, EpochSampler


def draws(steps, **options):
    return list(islice(EpochSampler(**options), steps))


def test_every_row_comes_once_an_epoch_and_the_order_changes():
    epochs = draws(6, num_rows=12, seed=3, batch_size=4)
    first, second = list(chain(*epochs[:3])), list(chain(*epochs[3:]))
    assert sorted(first) == [Draw(0, row) for row in range(12)]
    assert sorted(second) == [Draw(1, row) for row in range(12)]
    assert [d.row for d in first] != [d.row for d in second]
    assert draws(3, num_rows=12, seed=4, batch_size=4) != epochs[:3]


@pytest.mark.parametrize("num_rows", [1, 5, 12, 100])
def test_ranks_share_one_sequence_without_overlap_or_gap(num_rows):
    alone = list(chain(*draws(10, num_rows=num_rows, seed=1, batch_size=6)))
    ranks = [draws(10, num_rows=num_rows, seed=1, rank=r, world_size=3, batch_size=2) for r in range(3)]
    together = list(chain(*(ranks[rank][step] for step in range(10) for rank in range(3))))
    assert together == alone


def test_resume_in_the_middle_of_an_epoch_goes_on_exactly():
    options = {"num_rows": 7, "seed": 5, "rank": 1, "world_size": 2, "batch_size": 3}
    assert draws(20, **options)[8:] == draws(12, start_step=8, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rows": 0}, "num_rows must be at least 1, got 0"),
        ({"num_rows": 4, "rank": 2, "world_size": 2}, "rank must be in 0 … 1, got 2"),
        ({"num_rows": 4, "start_step": -1}, "start_step must be at least 0"),
        ({"num_rows": 2, "weights": [1.0]}, "weights must be 2 numbers above 0"),
        ({"num_rows": 2, "weights": [1.0, 0.0]}, "weights must be 2 numbers above 0"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        EpochSampler(**options)


def test_weights_say_how_often_rows_are_visited_and_every_row_comes():
    weights = [1.0] * 6 + [0.25] * 8 + [3.0] * 2
    sampler = EpochSampler(16, seed=7, batch_size=2, weights=weights)
    # Proportions 6 : 2 : 6 of 16 visits.
    assert sampler.epoch_length == 7 + 2 + 7
    epochs = [sampler.epoch_order(epoch) for epoch in range(40)]
    for order in epochs:
        rows = [draw.row for draw in order]
        assert [sum(row < 6 for row in rows), sum(6 <= row < 14 for row in rows)] == [7, 2]
    visits = list(chain(*epochs))
    assert len(set(visits)) == len(visits), "no visit of a row is like another one of it"
    counts = [sum(draw.row == row for draw in visits) for row in range(16)]
    assert all(46 <= count <= 47 for count in counts[:6])
    assert all(count == 10 for count in counts[6:14])
    assert all(count == 140 for count in counts[14:])
    assert epochs[0] != epochs[1]


def test_weights_change_nothing_about_ranks_and_resuming():
    options = {"num_rows": 5, "seed": 1, "weights": [1, 2, 1, 2, 4]}
    alone = list(chain(*draws(10, batch_size=6, **options)))
    ranks = [draws(10, rank=r, world_size=3, batch_size=2, **options) for r in range(3)]
    assert list(chain(*(ranks[rank][step] for step in range(10) for rank in range(3)))) == alone
    assert list(chain(*draws(7, batch_size=6, start_step=3, **options))) == alone[18:]
    assert draws(8, num_rows=5, weights=[2.0] * 5) == draws(8, num_rows=5)

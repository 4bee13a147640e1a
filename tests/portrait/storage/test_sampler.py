import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

import pytest
import torch

from portrait.storage.sampler import Draw, EpochSampler, batches, collate


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


class Squares:
    def __init__(self, broken_row=None):
        self.broken_row = broken_row

    def __getitems__(self, draws):
        if any(d.row == self.broken_row for d in draws):
            raise OSError("disk gone")
        return [{"x": torch.full((2,), d.row**2), "name": str(d.row), "even": d.row % 2 == 0} for d in draws]


@pytest.mark.parametrize(("prefetch", "readers"), [(2, 1), (1, 3), (6, 3)])
def test_batches_are_what_the_sampler_orders(prefetch, readers):
    sampler = EpochSampler(10, seed=2, batch_size=3)
    stream = batches(Squares(), sampler, prefetch=prefetch, readers=readers)
    for wanted, batch in zip(islice(sampler, 8), stream, strict=False):
        assert batch["name"] == [str(d.row) for d in wanted]
        assert torch.equal(batch["x"][:, 0], torch.tensor([d.row**2 for d in wanted]))
        assert batch["even"].dtype == torch.bool
    stream.close()


def test_an_error_while_reading_ahead_reaches_the_step_it_belongs_to():
    sampler = EpochSampler(10, seed=2, batch_size=1)
    rows = [d[0].row for d in islice(sampler, 5)]
    stream = batches(Squares(broken_row=rows[3]), sampler, prefetch=4)
    assert [next(stream)["name"] for _ in range(3)] == [[str(row)] for row in rows[:3]]
    with pytest.raises(OSError, match="disk gone"):
        next(stream)


class Announced(Squares):
    """Says which read it is at, and takes as long as it is told to."""

    def __init__(self):
        super().__init__()
        self.begun = [threading.Event() for _ in range(8)]
        self.may_end = [threading.Event() for _ in range(8)]
        self.reads = 0
        self.lock = threading.Lock()

    def __getitems__(self, draws):
        with self.lock:
            number, self.reads = self.reads, self.reads + 1
        self.begun[number].set()
        assert self.may_end[number].wait(30)
        return super().__getitems__(draws)


def test_a_slow_read_overlaps_the_step_before_it():
    """The second batch is being read, and comes to be ready, while the step on the first one computes."""
    reader = Announced()
    stream = batches(reader, EpochSampler(10, batch_size=1), prefetch=2)
    reader.may_end[0].set()
    next(stream)
    # The step on batch 0 computes from here on …
    assert reader.begun[1].wait(30)
    reader.may_end[1].set()
    assert reader.begun[2].wait(30), "reading stops until the step asks for its next batch"
    # … to here: batch 1 has long been read, although nobody has asked for it yet.
    next(stream)
    for event in reader.may_end:
        event.set()
    stream.close()


def test_several_readers_read_at_once_and_a_slow_one_delays_no_order():
    reader = Announced()
    sampler = EpochSampler(10, batch_size=1)
    stream = batches(reader, sampler, prefetch=3, readers=3)
    waiting = ThreadPoolExecutor(1).submit(next, stream)
    for event in reader.begun[:3]:
        assert event.wait(30), "one read waits for another"
    # The later batches are there first.
    for event in reader.may_end[:0:-1]:
        event.set()
    assert not waiting.done()
    reader.may_end[0].set()
    wanted = [[str(draws[0].row)] for draws in islice(sampler, 3)]
    assert [waiting.result(30)["name"], next(stream)["name"], next(stream)["name"]] == wanted
    stream.close()


def test_closing_ends_the_thread():
    before = threading.active_count()
    stream = batches(Squares(), EpochSampler(10, batch_size=2), prefetch=1)
    next(stream)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


def test_collate_keeps_text_as_a_list():
    batch = collate([{"t": torch.zeros(3), "s": "a", "n": 1}, {"t": torch.ones(3), "s": "b", "n": 2}])
    assert batch["t"].shape == (2, 3)
    assert batch["s"] == ["a", "b"]
    assert batch["n"].tolist() == [1, 2]

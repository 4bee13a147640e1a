import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
import torch

from portrait.storage.batches import batches, collate
from portrait.storage.epoch_sampler import EpochSampler


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
    """Reports which read it is at, and blocks until it is released."""

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
    # … to here: batch 1 has long been read, although it has not been requested yet.
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
    # The later batches are ready first.
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

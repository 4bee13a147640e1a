import math

import pytest

from pipelines import schedule


def test_warms_up_linearly_to_the_peak_and_ends_at_the_floor() -> None:
    rates = [schedule.learning_rate(2.0, step, 4, 0.0) for step in range(6)]
    assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    assert schedule.learning_rate(2.0, 10, 4, 1.0) == pytest.approx(2.0 * schedule.FLOOR)


def test_half_way_the_cosine_is_at_its_middle() -> None:
    middle = schedule.FLOOR + (1 - schedule.FLOOR) * 0.5 * (1 + math.cos(math.pi / 2))
    assert schedule.learning_rate(1.0, 100, 0, 0.5) == pytest.approx(middle)


@pytest.mark.parametrize(
    ("step", "elapsed", "budget", "expected"), [(5, 0, None, 0.5), (5, 30, 40, 0.75), (9, 10, 40, 0.9)]
)
def test_progress_is_that_of_the_steps_or_of_the_time_whichever_is_further(
    step: int, elapsed: float, budget: float | None, expected: float
) -> None:
    assert schedule.stage_progress(step, 10, elapsed, budget) == pytest.approx(expected)


def test_time_a_stage_leaves_goes_to_the_later_ones() -> None:
    assert schedule.stage_budget(100, [1.0, 3.0]) == pytest.approx(25)
    assert schedule.stage_budget(95, [3.0]) == pytest.approx(95)

"""Learning rate over a training stage: linear warm-up, then half a cosine.

The cosine follows the training stage's progress in [0, 1]: the share of its steps or of its time limit, whichever is
larger. So a run that stops at its time limit has decayed as fully as one that made all its steps.
"""

from __future__ import annotations

import math

FLOOR = 0.01
"""Learning rate at the end of the cosine, as a share of the peak."""


def learning_rate(peak: float, step: int, warmup_steps: int, progress: float) -> float:
    """Learning rate of a step.

    Args:
        peak: the training stage's peak learning rate.
        step: number of the step in the training stage, from 0.
        warmup_steps: steps over which the rate rises from 0 to the cosine.
        progress: share of the training stage that is done; clipped to [0, 1].
    """
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    cosine = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return peak * warm * cosine


def stage_progress(step: int, steps: int, elapsed_s: float, budget_s: float | None) -> float:
    """Share of a training stage that is done; at 1 it ends. Without `budget_s` there is no time limit."""
    by_steps = step / steps if steps else 1.0
    by_time = elapsed_s / budget_s if budget_s else 0.0
    return max(by_steps, by_time)


def stage_budget(remaining_s: float, costs: list[float]) -> float:
    """Seconds for the first of the remaining training stages, in proportion to their costs."""
    return remaining_s * costs[0] / sum(costs)

"""Learning rate over a stage: linear warm-up, then half a cosine.

The cosine follows the stage's progress in [0, 1], which is the share of the steps or of the time limit, whichever is
further: a run that stops at its limit has decayed as fully as one that made all its steps.
"""

from __future__ import annotations

import math

FLOOR = 0.01
"""The cosine's end, as a share of the peak."""


def learning_rate(peak: float, step: int, warmup_steps: int, progress: float) -> float:
    """Learning rate of step `step` (from 0) of a stage."""
    warm = min(1.0, (step + 1) / (warmup_steps + 1))
    cosine = FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return peak * warm * cosine


def stage_progress(step: int, steps: int, elapsed_s: float, budget_s: float | None) -> float:
    """Share of a stage that is done; at 1 it ends."""
    by_steps = step / steps if steps else 1.0
    by_time = elapsed_s / budget_s if budget_s else 0.0
    return max(by_steps, by_time)


def stage_budget(remaining_s: float, costs: list[float]) -> float:
    """Seconds for the first of the stages that are left, by their costs; time not used goes to the later ones."""
    return remaining_s * costs[0] / sum(costs)

"""Where footage stands still: one stored picture is shown for seconds, as in screen recordings and when a camera fails.

A face that stands still while it speaks teaches a model nothing, so such a part ends the shot before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


@dataclass(frozen=True)
class Still:
    """A part in which one picture stands."""

    first: int
    """Its first frame, counted from 0."""
    num_frames: int
    """Its length."""


@dataclass(frozen=True)
class Moving(Generic[Frame]):
    """A part between stills."""

    first: int
    """Its first frame, counted from 0."""
    frames: Iterator[Frame]
    """Its frames, to be read before the next part is asked for."""


def split_stills(frames: Iterator[Frame], least: int) -> Iterator[Still | Moving[Frame]]:
    """Divides frames into parts that move and parts that stand still.

    Args:
        frames: a picture that stands is the same object again, as `iter_planar_frames` yields it.
        least: number of frames from which on a picture counts as standing still.
    """
    runs = _runs(frames)
    run, position = next(runs, None), 0

    def moving() -> Iterator[Frame]:
        nonlocal run, position
        while run is not None and run[1] < least:
            yield from repeat(*run)
            position += run[1]
            run = next(runs, None)

    while run is not None:
        if run[1] < least:
            yield Moving(position, moving())
        else:
            yield Still(position, run[1])
            position += run[1]
            run = next(runs, None)


def _runs(frames: Iterator[Frame]) -> Iterator[tuple[Frame, int]]:
    """Each picture and for how many frames it stands."""
    shown, count = next(frames, None), 1
    if shown is None:
        return
    for frame in frames:
        if frame is shown:
            count += 1
        else:
            yield shown, count
            shown, count = frame, 1
    yield shown, count

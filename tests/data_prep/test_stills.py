"""Tests of data_prep.stills: parts in which one picture stands, found while the frames go by."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.sources.footage import Footage
from data_prep.stills import Still, split_stills
from portrait.media.video import read_video


def _parts(text: str, least: int) -> list[tuple[int, str | int]]:
    """Letters are frames, like ones are the same; returns each part's beginning and its frames, or its length."""
    pictures = {letter: [letter] for letter in text}
    frames = iter([pictures[letter] for letter in text])
    return [
        (
            part.first,
            part.num_frames if isinstance(part, Still) else "".join(frame[0] for frame in part.frames),
        )
        for part in split_stills(frames, least)
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("abc", [(0, "abc")]),
        ("aabbcc", [(0, "aabbcc")]),
        ("abcccde", [(0, "ab"), (2, 3), (5, "de")]),
        ("aaab", [(0, 3), (3, "b")]),
        ("abbb", [(0, "a"), (1, 3)]),
        ("aaabbbb", [(0, 3), (3, 4)]),
        ("aaa", [(0, 3)]),
    ],
)
def test_parts_that_stand_and_parts_that_move(text: str, parts: list[tuple[int, str | int]]) -> None:
    assert _parts(text, least=3) == parts


def test_equal_pictures_that_were_stored_one_by_one_move() -> None:
    lengths = [
        0 if isinstance(part, Still) else len(list(part.frames))
        for part in split_stills(iter([["a"], ["a"], ["a"], ["a"]]), 2)
    ]
    assert lengths == [4]


def test_a_screen_recording_that_stands_for_seconds_gives_clips_of_the_rest(
    heads, write_film, tmp_path: Path
) -> None:
    frames = read_video(heads[0]).frames
    times = [Fraction(i, 25) + (12 if i >= len(frames) else 0) for i in range(2 * len(frames))]
    sound = np.random.default_rng(0).normal(scale=0.1, size=round((float(times[-1]) + 0.04) * 16_000))
    pictures = zip(times, [*frames, *frames], strict=True)
    path = write_film(tmp_path / "screen.mp4", pictures, sound.astype(np.float32), 16_000)
    footage = Footage(path=str(path), identity="ann", source="test")
    rows, (reject,) = cut_file(footage, "content", "train", CutSettings(size=64))
    spans = [(row["provenance"]["start_s"], row["provenance"]["end_s"]) for row in rows]
    first = len(frames) / 25
    # The last picture before the pause stands as well; what is left is cut to 1 + 4·n frames.
    assert spans == [
        (0.0, pytest.approx(33 / 25)),
        (pytest.approx(first + 12), pytest.approx(first + 12 + 33 / 25)),
    ]
    assert reject.reason == "the picture stands still for 12.0 s"
    assert (reject.start_s, reject.end_s) == pytest.approx((first - 0.04, first + 12), abs=0.05)


def test_a_timestamp_hours_ahead_is_still_damage(heads, write_film, tmp_path: Path) -> None:
    frames = read_video(heads[0]).frames[:10]
    times = [Fraction(i, 25) + (7200 if i >= 5 else 0) for i in range(10)]
    path = write_film(
        tmp_path / "hours.mkv", zip(times, frames, strict=True), np.zeros(3200, np.float32), 16_000
    )
    footage = Footage(path=str(path), identity="ann", source="test")
    rows, (reject,) = cut_file(footage, "content", "train", CutSettings(size=64))
    assert rows == []
    assert "no frame follows for 7200 s" in reject.reason

"""Drift: which frames a stretch is measured on, which minutes the report compares, and where seams are expected."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.drift import Stretch, markdown, measure_drift, minutes_at_both_ends, plot, seams
from portrait import presets
from portrait.metrics.drift import colour_distance, sharpness


def stretch(number: int, **changes: Any) -> Stretch:
    values: dict[str, Any] = {
        "sharpness": float(number),
        "colour": 1.0,
        "identity": None,
        "shown": np.zeros((4, 4, 3), np.uint8),
        "differences": np.ones(250, np.float32),
    }
    return Stretch(start_s=10.0 * number, **values | changes)


class Blocks:
    """Stands in for the models: 16 frames per block, noise around a grey that rises with time."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames, self.blocks = frames, 0

    def stream(self, portrait: Any, audio: Any) -> Iterator[Any]:
        del portrait, audio
        for start in range(0, len(self.frames), 16):
            self.blocks += 1
            yield SimpleNamespace(frames=self.frames[start : start + 16])


@pytest.fixture
def frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    grey = np.linspace(40, 200, 400)[:, None, None, None]
    return (grey + rng.uniform(-20, 20, (400, 16, 16, 3))).astype(np.uint8)


def test_a_stretch_is_measured_on_its_own_frames(frames: np.ndarray) -> None:
    pipeline, references = Blocks(frames), frames[:1]
    portrait = SimpleNamespace(pictures=references)
    found = list(measure_drift(pipeline, portrait, [], seconds=7.0, stretch_s=2.0))  # type: ignore[arg-type]
    assert [s.start_s for s in found] == [0, 2, 4]
    for s, own in zip(found, (frames[:50], frames[50:100], frames[100:150]), strict=True):
        assert s.sharpness == pytest.approx(sharpness(own) / sharpness(references))
        assert s.colour == pytest.approx(colour_distance(own, references))
        assert s.identity is None
        assert (s.shown == own[25]).all()
    apart = [np.abs(frames[n].astype(float) - frames[n - 1]).mean() for n in range(1, 150)]
    np.testing.assert_allclose(np.concatenate([s.differences for s in found]), [0, *apart], rtol=1e-4)
    assert pipeline.blocks == 10  # 150 frames: the stream is not continued beyond what is measured


def test_first_and_last_minute_are_compared() -> None:
    first, last = minutes_at_both_ends([stretch(n) for n in range(60)])
    assert (first["sharpness"], last["sharpness"]) == (2.5, 56.5)
    first, last = minutes_at_both_ends([stretch(n) for n in range(4)])
    assert (first["sharpness"], last["sharpness"]) == (0.5, 2.5)


def test_seams_are_expected_at_the_starts_of_windows_and_blocks() -> None:
    """32 latents: a window begins at frame 125 (latent 32), then every 28 latents; a block at 13, then every 16."""
    differences = np.ones(2_000, np.float32)
    differences[1::4] = 1.5
    differences[13::16] = 2
    differences[125::112] = 5
    found = seams(
        [stretch(0, differences=part) for part in np.split(differences, 8)], presets.load("tiny").generator
    )
    assert (found.windows, found.blocks, found.latents, found.elsewhere) == (5, 2, 1.5, 1)
    rolling = seams([stretch(0, differences=differences)], presets.load("tiny").generator, rolling=True)
    assert np.isnan(rolling.windows)
    assert rolling.blocks > 2
    short = seams([stretch(0, differences=differences[:100])], presets.load("tiny").generator)
    assert np.isnan(short.windows)
    assert (short.blocks, short.latents, short.elsewhere) == (2, 1.5, 1)


def test_the_report_says_what_was_not_measured() -> None:
    stretches = [stretch(n, identity=0.5 if n < 2 else None) for n in range(4)]
    table = markdown({"one": stretches}, {"stream": "short"}, presets.load("tiny").generator)
    assert "- stream: short" in table
    assert "| one | sharpness | 0.500 | 2.500 | +2.000 |" in table
    assert "| one | identity | 0.500 | not measured or no face |  |" in table
    assert plot({"one": stretches}).ndim == 3

"""Flags of `evaluate` that ask for something that can't be measured are refused before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import evaluate
from jobs.evaluate import Evaluate
from portrait.storage.starter_weights import starter_weights

STARTER = starter_weights("tiny")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"references": 4}, "--references must be between 1 and 3, got 4"),
        ({"speakers": 0}, "--speakers must be between 1 and 1000000, got 0"),
        (
            {"syncnet": Path("syncnet_v2.model")},
            "--clips is missing: lip sync and identity are measured on videos generated",
        ),
        (
            {"syncnet": Path("s"), "clips": "c.lance"},
            "--generator is missing: lip sync and identity are measured",
        ),
        (
            {"syncnet": Path("nowhere.model"), "clips": "c.lance", "generator": Path("g")},
            r"nowhere\.model: no such file, expected SyncNet's weights",
        ),
        (
            {"detector": Path("d.onnx"), "clips": "c.lance", "generator": Path("g")},
            "identity weights and a face detector are needed together: give both or neither",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path: Path, flags: dict, said: str) -> None:
    assert STARTER is not None
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        evaluate.main(Evaluate(vae=STARTER.vae, output=tmp_path / "out", **flags))
    assert not (tmp_path / "out").exists()

"""Flags of `evaluate` that ask for what cannot be measured are told before anything is computed."""

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
        ({"references": 4}, "--references must be 1 … 3, got 4"),
        ({"speakers": 0}, "--speakers must be 1 … 1000000, got 0"),
        (
            {"syncnet": Path("syncnet_v2.model")},
            "--clips: lip sync and identity are measured on clips of a table",
        ),
        ({"syncnet": Path("s"), "clips": "c.lance"}, "--generator: lip sync and identity are measured"),
        (
            {"syncnet": Path("nowhere.model"), "clips": "c.lance", "generator": Path("g")},
            r"nowhere\.model: no such file, expected SyncNet's weights",
        ),
        (
            {"detector": Path("d.onnx"), "clips": "c.lance", "generator": Path("g")},
            "identity weights and a face detector go together",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path: Path, flags: dict, said: str) -> None:
    assert STARTER is not None
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        evaluate.main(Evaluate(vae=STARTER.vae, output=tmp_path / "out", **flags))
    assert not (tmp_path / "out").exists()

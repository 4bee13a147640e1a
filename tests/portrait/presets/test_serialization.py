"""Configurations survive JSON, and invalid ones are reported with their dotted path."""

from __future__ import annotations

import json

import pytest

from portrait import presets
from portrait.presets import Preset
from portrait.presets.serialization import from_dict, to_dict


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_survives_json(name: str) -> None:
    preset = presets.load(name)
    assert from_dict(Preset, json.loads(json.dumps(to_dict(preset)))) == preset


def test_unknown_and_missing_fields_are_named() -> None:
    data = to_dict(presets.load("tiny"))
    data["vae"]["fusion"]["colour"] = 1
    with pytest.raises(ValueError, match=r"vae\.fusion\.colour"):
        from_dict(Preset, data)
    data = to_dict(presets.load("tiny"))
    del data["video"]["size"]
    with pytest.raises(ValueError, match="size"):
        from_dict(Preset, data)


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'huge'; known presets: tiny, small, paper"):
        presets.load("huge")

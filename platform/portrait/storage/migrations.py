"""Checkpoints of earlier releases: their configuration's fields and their tensors' names, as this release has them.

A model file carries the configuration it was trained with. When a release renames or removes a field or a module, the
change is recorded here, so that every older file still loads. Files are never rewritten.
"""

from __future__ import annotations

import copy
from typing import Any

from portrait.timing import FRAME_RATE, LATENTS_PER_BLOCK

_FIXED = {"video.fps": FRAME_RATE, "generator.block_latents": LATENTS_PER_BLOCK}
"""Former fields that only ever worked with one value, which is now part of the time grid."""
_REMOVED = ("generator.max_references",)
"""Former fields that did not influence the model."""


def migrate_preset(preset: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model file of any release, with the fields of this one.

    Args:
        preset: nested dictionaries as `presets.serialization.to_dict` gives them; not changed.

    Raises:
        ValueError: a removed field has a value that this release does not support.
    """
    preset = copy.deepcopy(preset)
    for path, supported in _FIXED.items():
        section, field = path.split(".")
        value = preset.get(section, {}).pop(field, supported)
        if value != supported:
            raise ValueError(f"{path} is {value!r}, this release supports only {supported}")
    for path in _REMOVED:
        section, field = path.split(".")
        preset.get(section, {}).pop(field, None)
    return preset

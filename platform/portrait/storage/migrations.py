"""Checkpoints of earlier releases: their configuration's fields and their tensors' names, as this release has them.

A model file carries the configuration it was trained with. When a release renames or removes a field or a module, the
change is recorded here, so that every older file still loads. Files are never rewritten.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from portrait.timing import FRAME_RATE, LATENTS_PER_BLOCK

_FIXED = {"video.fps": FRAME_RATE, "generator.block_latents": LATENTS_PER_BLOCK}
"""Former fields that only ever worked with one value, which is now part of the time grid."""
_REMOVED = ("generator.max_references",)
"""Former fields that did not influence the model."""
_OPTIMIZER = ("warmup_steps", "weight_decay", "gradient_clip", "ema_decay")
"""Former fields of both training sections, now in their `optimizer`."""
_RENAMED = {
    "generator.blocks": "num_layers",
    "vae.fusion.blocks": "num_layers",
    "generator_training.rollout_level_max": "rollout_timestep_max",
}
"""Former dotted paths and the fields' names of today."""
_RENAMED_TENSORS = {
    "generator": (
        ("blocks.", "layers."),
        ("level_embedding.", "timestep_embedding."),
        ("latent_mean", "normaliser.mean"),
        ("latent_std", "normaliser.std"),
    ),
    "vae": (("decoder.d_ref.blocks.", "decoder.d_ref.layers."),),
}
"""Former beginnings of tensor names and those of today, for each kind of model."""


def migrate_preset(preset: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model file of any release, with the fields of this one.

    Args:
        preset: nested dictionaries as `presets.serialization.to_dict` gives them; not changed.

    Raises:
        ValueError: a removed field has a value that this release does not support.
    """
    preset = copy.deepcopy(preset)
    for path, supported in _FIXED.items():
        section, field = _field(preset, path)
        value = section.pop(field, supported)
        if value != supported:
            raise ValueError(f"{path} is {value!r}, this release supports only {supported}")
    for path in _REMOVED:
        section, field = _field(preset, path)
        section.pop(field, None)
    for path, name in _RENAMED.items():
        section, field = _field(preset, path)
        if field in section:
            section[name] = section.pop(field)
    for section in ("vae_training", "generator_training"):
        if section in preset:
            _nest_optimizer(preset[section])
    return preset


def migrate_tensors(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of a model file of any release, under the names of this one.

    Args:
        state: tensors by name; not changed.
        kind: `vae` or `generator`.
    """
    return {_tensor_name(name, kind): tensor for name, tensor in state.items()}


def _nest_optimizer(training: dict[str, Any]) -> None:
    """Moves the optimiser's former fields into `optimizer`, which was the optimiser's name (AdamW or Muon) before."""
    if isinstance(training.get("optimizer"), str):
        del training["optimizer"]
    former = {name: training.pop(name) for name in _OPTIMIZER if name in training}
    if former:
        training["optimizer"] = former


def _field(preset: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The dictionary of a dotted path's last field (empty if the preset has no such section), and the field."""
    *sections, field = path.split(".")
    for section in sections:
        preset = preset.get(section, {})
    return preset, field


def _tensor_name(name: str, kind: str) -> str:
    for former, present in _RENAMED_TENSORS[kind]:
        if name.startswith(former):
            return present + name.removeprefix(former)
    return name

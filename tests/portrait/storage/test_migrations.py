"""Files of earlier releases load, and a value that is no longer supported is refused by name."""

from __future__ import annotations

import copy

import pytest
import torch

from portrait import presets
from portrait.presets import Preset
from portrait.presets.serialization import from_dict, to_dict
from portrait.storage.checkpoints import load_generator, load_vae
from portrait.storage.migrations import migrate_preset, migrate_tensors
from portrait.storage.starter_weights import starter_weights

TINY = presets.load("tiny")


def first_release() -> dict:
    """The configuration that the first release stored for `tiny`."""
    preset = to_dict(TINY)
    preset["video"]["fps"] = 25
    preset["generator"] |= {"block_latents": 4, "max_references": 3}
    for section in ("vae_training", "generator_training"):
        preset[section] |= preset[section].pop("optimizer") | {"optimizer": "adamw"}
    preset["generator"]["blocks"] = preset["generator"].pop("num_layers")
    preset["vae"]["fusion"]["blocks"] = preset["vae"]["fusion"].pop("num_layers")
    training = preset["generator_training"]
    training["rollout_level_max"] = training.pop("rollout_timestep_max")
    return preset


def test_fields_of_the_first_release_become_todays():
    old = first_release()
    before = copy.deepcopy(old)
    assert from_dict(Preset, migrate_preset(old)) == TINY
    assert old == before


def test_todays_configuration_stays_as_it_is():
    assert migrate_preset(to_dict(TINY)) == to_dict(TINY)


@pytest.mark.parametrize(
    ("section", "field", "value"), [("video", "fps", 30), ("generator", "block_latents", 8)]
)
def test_a_value_that_is_no_longer_supported_is_refused(section, field, value):
    old = first_release()
    old[section][field] = value
    with pytest.raises(ValueError, match=rf"{section}\.{field} is {value}, this release supports only"):
        migrate_preset(old)


def test_tensors_get_todays_names_and_others_keep_theirs():
    weight = torch.zeros(1)
    old = {
        "generator": (
            "blocks.3.mlp.0.weight",
            "level_embedding.mlp.0.bias",
            "latent_mean",
            "output.x",
        ),
        "vae": ("decoder.d_ref.blocks.1.null_key", "decoder.d2.levels.blocks.0.0.norm1.weight"),
    }
    expected = {
        "generator": (
            "layers.3.mlp.0.weight",
            "timestep_embedding.mlp.0.bias",
            "normaliser.mean",
            "output.x",
        ),
        "vae": ("decoder.d_ref.layers.1.null_key", "decoder.d2.levels.blocks.0.0.norm1.weight"),
    }
    for kind, names in old.items():
        migrated = migrate_tensors(dict.fromkeys(names, weight), kind)
        assert tuple(migrated) == expected[kind]
        assert tuple(migrate_tensors(migrated, kind)) == expected[kind]


def test_the_shipped_weights_load():
    starter = starter_weights("tiny")
    assert starter is not None
    assert load_vae(starter.vae, preset=TINY).config == TINY.vae
    assert load_generator(starter.generator, preset=TINY).config == TINY.generator

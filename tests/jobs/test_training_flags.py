"""Every field of a preset's training configuration has a flag, and the flag sets that field and no other."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from jobs import command_line
from jobs.ablate_vae import AblateVAE
from jobs.distill_generator import DistillGenerator
from jobs.train_generator import TrainGenerator
from jobs.train_vae import TrainVAE
from portrait import presets

Path = tuple[str | int, ...]

JOBS: tuple[tuple[type, str, list[str]], ...] = (
    (TrainVAE, "vae_training", []),
    (AblateVAE, "vae_training", []),
    (TrainGenerator, "generator_training", []),
    (DistillGenerator, "generator_training", ["--teacher", "teacher.safetensors"]),
)
"""Job, its section of the preset, and the flags that it cannot do without."""

SPECIAL = {"num_frames": 13}
"""Values for fields that take only some values of their type."""


def leaves(config: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Path, type and value of every field of nested dataclasses and tuples of them."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, here = getattr(config, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, here)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                yield from leaves(item, (*here, index))
        else:
            yield here, hints[field.name], value


def other_value(name: str, kind: Any, value: Any) -> Any:
    """A value that differs from `value` and is valid for the field; a field of a new type needs a line here."""
    if name in SPECIAL:
        return SPECIAL[name]
    number = 0.125 if value != 0.125 else 0.25
    integer = 3 if value == 2 else 2
    return {int: integer, float: number, float | None: number, str | None: "a/folder", bool: not value}[kind]


def flag_of(path: Path, value: Any) -> list[str]:
    """The arguments that set the field at `path`."""
    name = "training." + ".".join(map(str, path)).replace("_", "-")
    if isinstance(value, bool):
        *groups, last = name.split(".")
        return ["--" + name if value else "--" + ".".join([*groups, "no-" + last])]
    return ["--" + name, str(value)]


def replaced(config: Any, path: Path, value: Any) -> Any:
    """`config` with another value at `path`."""
    if not path:
        return value
    first, *rest = path
    if isinstance(first, int):
        return (*config[:first], replaced(config[first], tuple(rest), value), *config[first + 1 :])
    return dataclasses.replace(config, **{first: replaced(getattr(config, first), tuple(rest), value)})


@pytest.mark.parametrize("preset", presets.names())
@pytest.mark.parametrize(("job", "section", "needed"), JOBS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_field_is_set_by_its_own_flag(job: type, section: str, needed: list[str], preset: str) -> None:
    training = getattr(presets.load(preset), section)
    found = list(leaves(training))
    assert len({path for path, *_ in found}) > len(dataclasses.fields(training)) - 1
    for path, kind, value in found:
        other = other_value(str(path[-1]), kind, value)
        flag = flag_of(path, other)
        parsed: Any = command_line.parse(job, ["--preset", preset, *needed, *flag])
        assert parsed.training == replaced(training, path, other), flag
        assert parsed.training != training
        assert parsed.preset == preset


@pytest.mark.parametrize("arguments", [["--preset=paper"], ["--preset", "paper"]])
def test_defaults_are_those_of_the_preset_on_the_same_command_line(arguments: list[str]) -> None:
    parsed = command_line.parse(TrainVAE, ["--training.kl-weight", "1e-5", *arguments])
    paper = presets.load("paper").vae_training
    assert parsed.training == dataclasses.replace(paper, kl_weight=1e-5)
    assert command_line.parse(TrainVAE, []).training == presets.load("tiny").vae_training


@pytest.mark.parametrize("arguments", [["--preset"], ["--preset", "--steps", "3"]])
def test_a_preset_without_a_name_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="--preset"):
        command_line.parse(TrainVAE, arguments)


def test_a_required_flag_stays_required() -> None:
    with pytest.raises(ValueError, match="--teacher"):
        command_line.parse(DistillGenerator, ["--preset", "tiny"])

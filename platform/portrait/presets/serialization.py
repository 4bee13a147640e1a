"""Frozen dataclasses to plain JSON values and back: how a configuration is stored in a checkpoint."""

from __future__ import annotations

import types
import typing
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries and lists of JSON values."""
    return asdict(config)


def from_dict(cls: type[T], data: dict[str, Any], *, path: str = "") -> T:
    """The configuration that `to_dict` turned into `data`.

    Raises:
        ValueError: a field is unknown, missing or of the wrong kind; the message names its dotted path.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(
            f"unknown field {path}{unknown[0]} for {cls.__name__}; known: {', '.join(sorted(known))}"
        )
    values = {name: _convert(hints[name], value, f"{path}{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{path or cls.__name__}: {error}") from error


def _convert(hint: Any, value: Any, path: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be an object with fields, got {value!r}")
        return from_dict(typing.cast("type", hint), value, path=f"{path}.")
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, entry, f"{path}[{index}]") for index, entry in enumerate(value))
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(typing.get_args(hint)[0], value, path)
    return value

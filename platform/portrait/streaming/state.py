"""How a session's state travels: tensors to bytes and back (safetensors, which runs no code when read), and the errors
that all stream stages share.
"""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


class UnknownSessionError(LookupError):
    """A stage has no session of that name: it was never opened here, or it was closed."""

    def __init__(self, stage: str, session_id: str) -> None:
        super().__init__(f"{stage} has no session {session_id!r}")


class StageFullError(RuntimeError):
    """A stage has no room for another session."""


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """A session's tensors as bytes."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def unpack(state: bytes, expected: set[str]) -> dict[str, Tensor]:
    """The tensors that `pack` wrote.

    Raises:
        ValueError: the bytes are damaged, or are the state of another stage or release.
    """
    try:
        tensors = load(state)
    except SafetensorError as error:
        raise ValueError(f"session state: cannot be read ({error})") from error
    if set(tensors) != expected:
        raise ValueError(f"session state: expected {sorted(expected)}, found {sorted(tensors)}")
    return tensors

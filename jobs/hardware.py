"""Where a job computes, and what to call it beside its figures."""

from __future__ import annotations

import platform
from typing import Literal

import torch

Device = Literal["auto", "cpu", "cuda"]


def chosen(device: Device) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU where there is one.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no GPU that torch can use")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def described(device: str) -> str:
    """What figures were measured on."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU {platform.machine()}"

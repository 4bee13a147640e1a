"""The device a job computes on, and its name for reports."""

from __future__ import annotations

import platform
from typing import Literal

import torch

Device = Literal["auto", "cpu", "cuda"]


def chosen(device: Device) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU if there is one.

    Raises:
        ValueError: `device` is `cuda` and torch can use no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this machine has no GPU that torch can use")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def described(device: str) -> str:
    """Name of the GPU, or the CPU's architecture."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU {platform.machine()}"

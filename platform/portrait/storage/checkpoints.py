"""Exported models: safetensors files whose metadata contains the whole configuration, so that the file is enough.

It does not depend on DeepSpeed or the number of ranks; evaluation and serving load it. Files of earlier releases
load as well (`storage.migrations`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from portrait.presets import Preset
from portrait.presets.serialization import from_dict, to_dict
from portrait.storage.migrations import migrate_preset, migrate_tensors

if TYPE_CHECKING:
    from portrait.generator import Generator
    from portrait.vae import VideoVAE

KINDS = ("vae", "generator")
_METADATA_KEY = "portrait"


@dataclass(frozen=True, kw_only=True)
class ModelHeader:
    """The description in a model file."""

    kind: str
    """`vae` or `generator`."""
    preset: Preset
    """The configuration the model was built and trained with."""
    extra: dict[str, Any]
    """Further JSON values: training steps, metrics, the versions of what it was trained on."""
    version: str
    """First 12 hexadecimal digits of the file's SHA-256."""

    @property
    def latents_version(self) -> str:
        """The VAE version that tables of latents and generators refer to.

        A VAE whose decoder alone was trained further encodes as before: it keeps the version of the VAE it came from.
        """
        return str(self.extra.get("latents_version", self.version))


def save_model(
    path: str | Path,
    module: torch.nn.Module,
    *,
    kind: str,
    preset: Preset,
    extra: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> ModelHeader:
    """Writes a model and its configuration to one file, atomically.

    Args:
        path: a `.safetensors` file; its folder is created if missing, an existing file is replaced.
        module: the model; its whole state dictionary is written.
        kind: `vae` or `generator`.
        preset: the preset whose `.vae` or `.generator` built the module.
        extra: JSON values to store with it.
        dtype: stores weights of two and more dimensions in this type (such as `torch.float16`); scales, biases and
            statistics are stored as they are, since they are small and sensitive.

    Raises:
        ValueError: `kind` is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    path = Path(path)
    state = {name: _stored(tensor, dtype) for name, tensor in module.state_dict().items()}
    config = {"kind": kind, "preset": to_dict(preset), "extra": extra or {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    # A temporary name for each writer: two that write at the same time must not share a half-written file.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(state, temporary, metadata={_METADATA_KEY: json.dumps(config, sort_keys=True)})
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return read_header(path)


def read_header(path: str | Path) -> ModelHeader:
    """The configuration and version of a model file, without its weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a model of this project, or one of an incompatible release.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    if _METADATA_KEY not in metadata:
        raise ValueError(f"{path} holds weights but no configuration: not a model exported by this project")
    try:
        config = json.loads(metadata[_METADATA_KEY])
        preset = from_dict(Preset, migrate_preset(config["preset"]))
        kind, extra = config["kind"], config["extra"]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: its configuration does not fit this release: {error}") from error
    return ModelHeader(kind=kind, preset=preset, extra=extra, version=_digest(path))


def load_vae(path: str | Path, *, preset: Preset | None = None) -> VideoVAE:
    """The VAE of a file, in float32 on the CPU, in evaluation mode.

    Args:
        path: a file that `save_model` wrote.
        preset: the file's VAE must have this preset's configuration; None accepts any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file contains another kind of model, or one with another configuration.
    """
    from portrait.vae import VideoVAE

    header = _checked_header(path, "vae", preset)
    return _with_weights(VideoVAE(header.preset.vae), path, "vae")


def load_generator(path: str | Path, *, preset: Preset | None = None) -> Generator:
    """The generator of a file; see `load_vae`."""
    from portrait.generator import Generator

    header = _checked_header(path, "generator", preset)
    return _with_weights(Generator(header.preset.generator), path, "generator")


def _stored(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    tensor = tensor.detach().to("cpu")
    if dtype is not None and tensor.is_floating_point() and tensor.ndim >= 2:
        tensor = tensor.to(dtype)
    # A copy: safetensors refuses tensors that share storage or are laid out channels-last.
    return tensor.clone(memory_format=torch.contiguous_format)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _checked_header(path: str | Path, kind: str, preset: Preset | None) -> ModelHeader:
    header = read_header(path)
    if header.kind != kind:
        raise ValueError(f"{path} holds a model of kind {header.kind!r}, expected {kind!r}")
    if preset is not None and getattr(header.preset, kind) != getattr(preset, kind):
        raise ValueError(
            f"{path} was trained with preset {header.preset.name!r}, whose {kind} configuration differs from that of "
            f"preset {preset.name!r}"
        )
    return header


def _with_weights(module: Any, path: str | Path, kind: str) -> Any:
    try:
        module.load_state_dict(migrate_tensors(load_file(str(path)), kind))
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"{path}: its weights do not fit its configuration: {first[0].strip()}") from error
    return module.eval()

"""Typed arguments of the application builder: `serve run serve_apps.portrait_stream:build_app preset=tiny`.

Numbers live here and in the cluster's config file, never in decorators. Importing this module does not import torch:
the ingress, which needs the limits, starts in a moment and stays small.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from serve_apps.limits import Limits

if TYPE_CHECKING:
    import torch

API_KEYS_VARIABLE = "PORTRAIT_API_KEYS"
"""Environment variable with the accepted API keys, separated by commas."""


class Autoscaling(BaseModel):
    """Bounds of a deployment's replicas and the load that one of them should carry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt
    target_ongoing_requests: PositiveFloat
    """Calls in work per replica that autoscaling aims at."""
    upscale_delay_s: NonNegativeFloat = 10.0
    downscale_delay_s: NonNegativeFloat = 600.0
    """Long: a replica that goes takes its sessions' caches with it."""


class Replicas(BaseModel):
    """How many replicas a deployment has, and what each may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: PositiveInt = 1
    """Fixed number of replicas; unused with `autoscaling`."""
    autoscaling: Autoscaling | None = None
    num_cpus: NonNegativeFloat = 0.2
    """CPUs that Ray reserves for a replica."""
    num_gpus: NonNegativeFloat = 0.0
    """GPUs that Ray reserves for a replica."""
    threads: PositiveInt = 1
    """CPU threads of the model."""
    max_batch: PositiveInt = 8
    """Sessions that advance together in one pass."""
    max_sessions: PositiveInt = 64
    """Sessions whose caches a replica of a stage has room for."""
    max_ongoing_requests: PositiveInt = 256
    """Calls in work a replica takes; above the session slots, since calls beyond it wait and time out."""

    def options(self) -> dict[str, Any]:
        """Options of a Serve deployment."""
        options: dict[str, Any] = {
            "ray_actor_options": {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus},
            "max_ongoing_requests": self.max_ongoing_requests,
        }
        if self.autoscaling is None:
            options["num_replicas"] = self.replicas
        else:
            options["autoscaling_config"] = self.autoscaling.model_dump()
        return options


class StreamArgs(BaseModel):
    """Everything the application is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "tiny"
    """`tiny`, `small` or `paper`."""
    vae: str | None = None
    """The VAE's safetensors; by default the preset's starter weights."""
    generator: str | None = None
    """The generator's safetensors; by default the preset's starter weights."""
    portraits: str = "runs/portraits.lance"
    """Table of the registered portraits: a folder or a URI that all replicas can reach."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run; `auto` takes a GPU where the replica has one."""
    slack_s: PositiveFloat | None = None
    """How late audio may come before silence takes its place; by default one block."""
    api_keys: tuple[str, ...] = ()
    """Accepted API keys besides those of the environment variable `PORTRAIT_API_KEYS`; without any, none is needed."""
    limits: Limits = Limits()
    ingress: Replicas = Replicas()
    encoder: Replicas = Replicas()
    generation: Replicas = Replicas()
    """Replicas of the generator deployment."""
    decoder: Replicas = Replicas()

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str) -> str:
        from portrait import presets

        presets.load(value)
        return value

    def all_api_keys(self) -> tuple[str, ...]:
        """Keys of the arguments and of the environment."""
        extra = (key.strip() for key in os.environ.get(API_KEYS_VARIABLE, "").split(","))
        return tuple(dict.fromkeys((*self.api_keys, *(key for key in extra if key))))

    def torch_device(self) -> torch.device:
        """Where a replica's model runs."""
        import torch

        available = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(available if self.device == "auto" else self.device)

    def resolved(self) -> StreamArgs:
        """The same with weights filled in and paths that mean the same in a replica, whose working folder is another.

        Raises:
            FileNotFoundError: weights are not given and the preset ships none, or a file is missing.
            ValueError: a file holds another kind of model, or one of another preset.
        """
        from portrait import presets
        from portrait.storage.checkpoints import read_header
        from portrait.storage.starter_weights import starter_weights

        files = {"vae": self.vae, "generator": self.generator}
        starter = starter_weights(self.preset)
        preset = presets.load(self.preset)
        for kind, given in files.items():
            if given is None and starter is None:
                raise FileNotFoundError(
                    f"{kind}: preset {self.preset!r} ships no starter weights; name a file"
                )
            file = files[kind] = _absolute(given or str(getattr(starter, kind)))
            header = read_header(file)
            if header.kind != kind:
                raise ValueError(f"{kind}: {files[kind]} holds a model of kind {header.kind!r}")
            if getattr(header.preset, kind) != getattr(preset, kind):
                made = f"{kind}: {file} was made with preset {header.preset.name!r}"
                raise ValueError(f"{made}, whose {kind} differs from that of {self.preset!r} as it is now")
        return self.model_copy(update={**files, "portraits": _absolute(self.portraits)})


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())

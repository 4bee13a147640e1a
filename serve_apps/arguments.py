"""Typed arguments of the application builder: `serve run serve_apps.portrait_stream:build_app preset=tiny`.

Numbers live here and in the cluster's config file, never in decorators. Importing this module does not import torch,
because the ingress needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator

from serve_apps.limits import Limits

if TYPE_CHECKING:
    import torch


class Autoscaling(BaseModel):
    """How many replicas a deployment may have, and how loaded each should be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt
    target_ongoing_requests: PositiveFloat
    """Calls in progress per replica that autoscaling aims at."""
    upscale_delay_s: NonNegativeFloat = 10.0
    downscale_delay_s: NonNegativeFloat = 600.0
    """Long, because a replica that stops loses the caches of its sessions."""


class Replicas(BaseModel):
    """How many replicas a deployment has, and what each may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: PositiveInt = 1
    """Fixed number of replicas; ignored with `autoscaling`."""
    autoscaling: Autoscaling | None = None
    num_cpus: NonNegativeFloat = 0.2
    """CPUs that Ray reserves for a replica."""
    num_gpus: NonNegativeFloat = 0.0
    """GPUs that Ray reserves for a replica."""
    threads: PositiveInt = 1
    """CPU threads of the model in a replica."""
    max_batch: PositiveInt = 8
    """Most sessions that advance together in one batch."""
    max_sessions: PositiveInt = 64
    """Most sessions that are open on a replica of a model deployment."""
    max_ongoing_requests: PositiveInt = 256
    """Most calls in progress on a replica; must exceed the session slots, since further calls wait and time out."""

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
    """Arguments of the application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "tiny"
    """`tiny`, `small` or `paper`."""
    vae: str | None = None
    """The VAE's safetensors; by default the preset's starter weights."""
    generator: str | None = None
    """The generator's safetensors; by default the preset's starter weights."""
    portraits: str = "runs/portraits.lance"
    """Table of registered portraits: a folder or a URI that all replicas can reach."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run; `auto` uses a GPU if the replica has one."""
    slack_s: PositiveFloat | None = None
    """How late audio may come before silence takes its place; by default one block."""
    api_keys: tuple[str, ...] = ()
    """Accepted API keys, besides those in the environment variable `PORTRAIT_API_KEYS`; with none, anyone may call."""
    limits: Limits = Limits()
    """What clients may ask for."""
    ingress_replicas: Replicas = Replicas()
    encoder_replicas: Replicas = Replicas()
    generator_replicas: Replicas = Replicas()
    decoder_replicas: Replicas = Replicas()

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str) -> str:
        from portrait import presets

        presets.load(value)
        return value

    def torch_device(self) -> torch.device:
        """The device that a replica's model runs on."""
        import torch

        available = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(available if self.device == "auto" else self.device)

    def resolved(self) -> StreamArgs:
        """These arguments with all weights named, and with absolute paths: replicas have another working folder.

        Raises:
            FileNotFoundError: a file is missing, or none is given and the preset ships no starter weights.
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
                    f"{kind}: preset {self.preset!r} ships no starter weights; give a file"
                )
            file = files[kind] = _absolute(given or str(getattr(starter, kind)))
            header = read_header(file)
            if header.kind != kind:
                raise ValueError(f"{kind}: {file} holds a model of kind {header.kind!r}, expected {kind!r}")
            if getattr(header.preset, kind) != getattr(preset, kind):
                found = f"{kind}: {file} was trained with preset {header.preset.name!r}"
                raise ValueError(f"{found}, whose {kind} differs from that of {self.preset!r} as it is now")
        return self.model_copy(update={**files, "portraits": _absolute(self.portraits)})


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())

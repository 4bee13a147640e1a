"""Flags that all training jobs share, and the settings of the trainer that they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.training_settings import TrainingSettings
from portrait import cluster
from portrait.presets import Preset, load
from portrait.storage import checkpoints
from portrait.storage.starter_weights import starter_weights

READERS_BESIDE_A_GPU = 4
"""One thread decodes some 25 windows of 17 frames at 512² a second (AMD EPYC), fewer than a GPU takes at first."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a training job runs."""

    preset: str = "tiny"
    """Preset of the system; the defaults of --training.… are its values."""
    output: Path | None = None
    """Folder of the run: weights, checkpoints, tracking store; by default runs/PRESET. On a cluster, a folder that all
    nodes share."""
    workers: int = 2
    """Ray Train workers; 0 trains in this process, without Ray and without checkpoints."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed's ZeRO stage: what is split over the workers, the optimiser's state (1), also gradients (2), also
    weights (3)."""
    init: str = "none"
    """Weights to start from: a file, `starter` for those that ship with the preset, or `none`."""
    resume: bool = False
    """Continue the last run in the output folder from its last checkpoint, with the same order of the data."""
    seed: int = 0
    """Seed of the initial weights, the data's order and every random draw."""
    steps: int | None = None
    """Optimiser steps in all; the VAE's training stages share them in the preset's proportions. By default, as many as
    the training configuration says."""
    batch_size: int | None = None
    """Windows per worker and step, in every training stage; by default, the training configuration's."""
    learning_rate: float | None = None
    """Peak learning rate, in every training stage; by default, the training configuration's."""
    minutes: float | None = None
    """Time limit: the learning rate has decayed and the weights are exported by then, even if steps remain."""
    accumulation: int = 1
    """Batches whose gradients are summed for one optimiser step."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; each also exports the averaged weights so far."""
    evaluate_steps: int | None = None
    """Steps between evaluations; by default, only at the end of each training stage."""
    threads: int | None = None
    """Threads for a worker's arithmetic on the CPU; by default, the machine's cores are shared among the workers."""
    readers: int | None = None
    """Threads of a worker that read and decode batches ahead; by default 1 on CPUs, 4 with a GPU."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Whether each worker takes a GPU; auto takes GPUs if the cluster has enough."""
    autocast: bool = False
    """On CPUs: matrix products and convolutions in bfloat16, weights in float32. Faster if the processor has AVX-512
    BF16 or AMX; GPUs always train in bfloat16."""
    retries: int = 1
    """How often a crashed group of workers is restarted from its last checkpoint."""

    @property
    def folder(self) -> Path:
        """The output folder, absolute, since workers run in other folders."""
        return (self.output or Path("runs") / self.preset).absolute()

    def initial_weights(self, kind: Literal["vae", "generator"]) -> str | None:
        """The file to start from; checked here, so that a wrong one is reported before any worker starts.

        Raises:
            FileNotFoundError: the file does not exist, or no starter weights ship with the preset.
            ValueError: the file is of another kind or preset.
        """
        if self.init == "none":
            return None
        preset = load(self.preset)
        path = Path(self.init).absolute()
        if self.init == "starter":
            starter = starter_weights(preset.name)
            if starter is None:
                raise FileNotFoundError(
                    f"--init starter: no starter weights ship with preset {preset.name!r}"
                )
            path = starter.vae if kind == "vae" else starter.generator
        check_weights(path, kind, preset)
        return str(path)

    def connect(self) -> TrainingSettings:
        """Connects to Ray and settles what depends on the machine.

        Raises:
            ValueError: there are fewer GPUs than --device gpu needs, or a number is out of range.
        """
        self._check()
        if self.workers:
            cluster.connect(self.workers)
        found = cluster.accelerators() if self.workers else 0
        if self.device == "gpu" and found < self.workers:
            raise ValueError(
                f"--device gpu: {self.workers} workers need {self.workers} GPUs, the cluster has {found}"
            )
        gpu = self.device != "cpu" and 0 < self.workers <= found
        return TrainingSettings(
            output=str(self.folder),
            workers=self.workers,
            zero_stage=self.zero_stage,
            seed=self.seed,
            accumulation=self.accumulation,
            minutes=self.minutes,
            checkpoint_minutes=self.checkpoint_minutes,
            evaluate_steps=self.evaluate_steps,
            threads=self.threads or cluster.threads_per_worker(self.workers),
            readers=self.readers or (READERS_BESIDE_A_GPU if gpu else 1),
            gpu=gpu,
            autocast=self.autocast,
            retries=self.retries,
        )

    def _check(self) -> None:
        for name in ("workers", "retries"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative, got {getattr(self, name)}")
        if self.readers is not None and self.readers < 1:
            raise ValueError(f"--readers must be at least 1, got {self.readers}")
        if self.accumulation < 1:
            raise ValueError(f"--accumulation must be at least 1, got {self.accumulation}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"--minutes must be positive, got {self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {self.steps}")


def check_weights(path: Path, kind: str, preset: Preset) -> None:
    """Checks that a model file fits a preset.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it holds another kind of model, or one with another configuration.
    """
    header = checkpoints.read_header(path)
    if header.kind != kind:
        raise ValueError(f"{path} holds a model of kind {header.kind!r}, expected {kind!r}")
    if getattr(header.preset, kind) != getattr(preset, kind):
        raise ValueError(
            f"{path} is of preset {header.preset.name!r} and does not fit preset {preset.name!r}"
        )

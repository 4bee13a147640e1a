"""How a task is trained, as opposed to what it trains: workers, seed, limits, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from portrait import tracking


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of a training run."""

    output: str
    """Absolute path of a folder that all workers reach: exported weights, checkpoints, tracking store."""
    workers: int = 2
    """Ray Train workers; 0 trains in this process, without checkpoints."""
    zero_stage: int = 2
    """DeepSpeed's ZeRO stage."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and every random draw."""
    accumulation: int = 1
    """Batches whose gradients are summed for one optimiser step."""
    minutes: float | None = None
    """Time limit; the learning rate has decayed fully when it is reached. None trains all steps."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints; there is also one at the end of each training stage."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, instead of minutes."""
    evaluate_steps: int | None = None
    """Steps between evaluations; None evaluates only at the end of each training stage."""
    threads: int = 1
    """Threads for a worker's arithmetic on the CPU."""
    readers: int = 1
    """Threads of a worker that read and decode batches ahead."""
    gpu: bool = False
    """Whether each worker has a GPU."""
    autocast: bool = False
    """On CPUs: matrix products and convolutions in bfloat16, weights in float32."""
    retries: int = 1
    """How often a crashed group of workers is restarted from its last checkpoint."""
    timeout_s: int = 1800
    """Longest time in seconds that a worker waits for the others."""
    parent: tracking.Run | None = None
    """The run under which this one is listed, in the same store; None for a run of its own."""

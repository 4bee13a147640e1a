"""The DeepSpeed engine of a worker: ZeRO stages 0 to 3; bfloat16 on GPUs, float32 on CPUs with optional bfloat16 matrix
products.

On CPUs the process group is gloo's and the optimiser is torch's AdamW, so that nothing has to be compiled when training
starts: compiling DeepSpeed's shared-memory collectives takes 45 s and gains nothing at these sizes.
"""

from __future__ import annotations

import collections
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from portrait.presets import OptimizerConfig

_TAG = "engine"


def deepspeed_config(
    *,
    zero_stage: int,
    micro_batch: int,
    accumulation: int,
    gradient_clip: float,
    bfloat16: bool,
    autocast: bool = False,
) -> dict[str, Any]:
    """DeepSpeed's configuration; the optimiser is built by `build_optimizer` instead.

    Args:
        zero_stage: ZeRO stage: what is split over the workers.
        micro_batch: examples per worker and batch.
        accumulation: batches per optimiser step.
        gradient_clip: upper bound of the gradient's norm; 0 does not clip.
        bfloat16: weights and activations in bfloat16, float32 masters in the optimiser.
        autocast: weights in float32, matrix products and convolutions in bfloat16.

    Raises:
        ValueError: `zero_stage` is not one of 0, 1, 2, 3.
    """
    if zero_stage not in (0, 1, 2, 3):
        raise ValueError(f"zero_stage must be 0, 1, 2 or 3, got {zero_stage}")
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": gradient_clip,
        "bf16": {"enabled": bfloat16},
        "torch_autocast": {"enabled": autocast, "dtype": "bfloat16"},
        "zero_optimization": {"stage": zero_stage, "overlap_comm": bfloat16 and zero_stage > 0},
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


def start_engine(module: nn.Module, config: dict[str, Any], optimizer: OptimizerConfig, *, gpu: bool) -> Any:
    """Wraps `module` in a DeepSpeed engine over the process group that Ray Train made."""
    if not gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "warning")
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if not gpu:
        # Reports every native operator as unusable, so that DeepSpeed neither probes for compilers nor builds any.
        deepspeed.ops.__compatible_ops__ = collections.defaultdict(bool)  # type: ignore[attr-defined]
    if not dist.is_initialized():
        _single_process_group(gpu)
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=build_optimizer(module, optimizer),
        config=config,
        dist_init_required=False,  # type: ignore[arg-type]
    )
    return engine


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trained weights; the learning rate is 0 until `set_learning_rate` sets it."""
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay), lr=0.0, betas=(0.9, 0.98), fused=True
    )


def _single_process_group(gpu: bool) -> None:
    """Makes the process group that DeepSpeed needs and Ray Train's local mode (`num_workers=0`) does not make."""
    store = dist.HashStore()
    dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=0, world_size=1)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        os.environ.setdefault(name, value)


def leave_process_group() -> None:
    """Destroys the group that `start_engine` made, also within DeepSpeed, so that this process can train again."""
    import deepspeed.comm

    if deepspeed.comm.is_initialized():
        deepspeed.comm.destroy_process_group()


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices and kernels with weight decay; gains, biases and tokens without.

    Tokens such as [1, 1, D] count as vectors, since dimensions of size 1 are squeezed.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.squeeze().ndim >= 2]
    others = [parameter for parameter in trained if parameter.squeeze().ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def full_weights(engine: Any) -> Iterator[torch.Tensor]:
    """The model's unsplit weights in float32, in the order of its parameters; all ranks must iterate over all of them.

    They come from the optimiser's float32 masters if the module itself holds bfloat16 or shards.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    for parameter in engine.module.parameters():
        master = None
        if hasattr(parameter, "ds_id") or parameter.dtype != torch.float32:
            master = safe_get_full_fp32_param(parameter)
        yield parameter.detach() if master is None else master.detach()


def set_learning_rate(engine: Any, learning_rate: float) -> None:
    """Sets the learning rate of the next step in all parameter groups."""
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate


def save_engine(engine: Any, folder: Path) -> None:
    """Writes this rank's part of the engine's state; all ranks call it, each with its own folder."""
    engine.save_checkpoint(str(folder), tag=_TAG)


def load_engine(engine: Any, folder: Path) -> None:
    """Loads what `save_engine` wrote with the same number of ranks.

    Raises:
        ValueError: the folder has no engine state for this number of ranks.
    """
    loaded, _ = engine.load_checkpoint(str(folder), tag=_TAG)
    if loaded is None:
        raise ValueError(f"{folder}: no DeepSpeed state for {dist.get_world_size()} workers")

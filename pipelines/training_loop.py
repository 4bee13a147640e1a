"""What runs in every training worker: the loop over stages and steps.

All ranks take the same branches: what depends on a clock is decided by rank 0 and broadcast before the step. Random
draws come from (seed, step) and, where they may differ, the rank; so an interrupted run repeats none and skips none.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from torch import nn

from pipelines import schedule
from pipelines.data_wait import DataWait
from pipelines.ema import WeightAverage
from pipelines.engine import (
    deepspeed_config,
    full_weights,
    leave_process_group,
    load_engine,
    save_engine,
    set_learning_rate,
    start_engine,
)
from pipelines.task import Batch, DataShard, Task
from portrait import tracking

_STATE_FILE = "state.json"
_AVERAGE_FILE = "average.pt"
_PRINT_EVERY_S = 5.0
AVERAGE_EVERY = 10
"""Steps between updates of the average where each has to gather the weights."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a task is trained, as against what it trains."""

    output: str
    """Folder, absolute, that every worker reaches: exported weights, checkpoints, tracking store."""
    workers: int = 2
    """Ray Train workers; 0 runs in this process, without checkpoints."""
    zero_stage: int = 2
    """DeepSpeed's ZeRO stage."""
    seed: int = 0
    """Seed of the initial weights, the data's order and every draw."""
    accumulation: int = 1
    """Micro-steps whose gradients make one optimiser step."""
    minutes: float | None = None
    """Time limit; training ends there with its schedule run out."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints; there is one at every stage's end too."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, instead of minutes."""
    evaluate_steps: int | None = None
    """Steps between evaluations; None evaluates at the end of each stage only."""
    threads: int = 1
    """Threads a worker's arithmetic takes on the CPU."""
    readers: int = 1
    """Threads of a worker that read and decode batches ahead."""
    gpu: bool = False
    """Whether each worker has a GPU."""
    autocast: bool = False
    """On CPUs: products of matrices and kernels in bfloat16, weights in float32."""
    retries: int = 1
    """How often a crashed group of workers is started again from its last checkpoint."""
    timeout_s: int = 1800
    """Longest wait of a worker for the others."""
    parent: tracking.Run | None = None
    """The run under which this one is listed, in the same store; None for a run of its own."""


@dataclass(kw_only=True)
class Progress:
    """Where training stands; equal on all ranks and part of every checkpoint."""

    stage: int = 0
    """Index of the current stage."""
    step: int = 0
    """Optimiser steps done in it."""
    total_steps: int = 0
    """Optimiser steps done in all."""
    elapsed_s: float = 0.0
    """Seconds trained in all."""
    stage_elapsed_s: float = 0.0
    """Seconds trained in this stage."""
    ended: bool = False
    """Whether all stages are done."""


class TaskLoss(nn.Module):
    """The module that DeepSpeed wraps: the model, called through the task's loss."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(
        self, batch: Batch, *, seed: int, step: int, rng: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        return self._task.loss(self.model, batch, seed=seed, step=step, rng=rng)


def train_worker(config: dict[str, Any]) -> dict[str, float]:
    """Ray Train's entry point; returns the last evaluation's figures (rank 0's)."""
    if config["settings"].workers:
        logging.disable(logging.INFO)  # Ray Train announces every report of every rank
        return TrainingLoop(config["task"], config["settings"], config["run"]).train()
    try:
        return TrainingLoop(config["task"], config["settings"], config["run"]).train()
    finally:
        leave_process_group()


class TrainingLoop:
    """One rank's part of a training run."""

    def __init__(self, task: Task, settings: TrainingSettings, run: tracking.Run | None) -> None:
        context = ray.train.get_context()
        self.task, self.settings, self.run = task, settings, run
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if settings.gpu else torch.device("cpu")
        )
        if not settings.gpu:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.progress = Progress()
        model = task.build()
        self.average: WeightAverage | None = None
        if self.rank == 0:
            self.average = WeightAverage(task.build(), task.optimizer.ema_decay)
            self.average.module.load_state_dict(model.state_dict())
            self.average.module.to(self.device)
        config = deepspeed_config(
            zero_stage=settings.zero_stage,
            micro_batch=task.stages[0].batch_size,
            accumulation=settings.accumulation,
            gradient_clip=task.optimizer.gradient_clip,
            bfloat16=settings.gpu,
            autocast=settings.autocast and not settings.gpu,
        )
        self.engine = start_engine(TaskLoss(task, model), config, task.optimizer, gpu=settings.gpu)
        # Decisions of rank 0 travel on the CPU: a GPU need not wait for them.
        group = dist.new_group(backend="gloo") if settings.gpu else None
        self.control = group if isinstance(group, dist.ProcessGroup) else None
        self.figures: dict[str, float] = {}
        self.printed_at = self.saved_at = time.monotonic()
        self.window: list[dict[str, Any]] = []
        self.data_wait = DataWait()
        self._restore()

    # ---------------------------------------------------------------- the loop

    def train(self) -> dict[str, float]:
        """Runs what is left of the stages; returns the last figures."""
        while not self.progress.ended:
            self._run_stage()
            progress = self.progress
            progress.stage, progress.step, progress.stage_elapsed_s = progress.stage + 1, 0, 0.0
            progress.ended = progress.stage == len(self.task.stages)
            self._checkpoint()
        return self.figures

    def _run_stage(self) -> None:
        progress, settings = self.progress, self.settings
        stage = self.task.stages[progress.stage]
        shard = DataShard(
            rank=self.rank,
            world_size=self.world_size,
            seed=settings.seed + 7919 * progress.stage,
            start_step=progress.step * settings.accumulation,
            readers=settings.readers,
        )
        batches = self.task.batches(progress.stage, shard)
        budget_s = self._stage_budget()
        self.clock = self.printed_at = time.monotonic()
        self._say(
            f"stage {progress.stage + 1}/{len(self.task.stages)} ({stage.name}): up to {stage.steps} steps"
        )
        while True:
            done, save = self._decide(stage.steps, budget_s)
            if save:
                self._checkpoint()
            if done >= 1:
                break
            rate = schedule.learning_rate(
                stage.learning_rate, progress.step, self.task.optimizer.warmup_steps, done
            )
            with self.data_wait.step():
                self._step(batches, rate)
            self._report_progress(stage.steps, budget_s, rate)
            if settings.evaluate_steps and progress.total_steps % settings.evaluate_steps == 0:
                self._evaluate(progress.stage)
        self._evaluate(progress.stage)

    def _step(self, batches: Any, rate: float) -> None:
        """One optimiser step of all ranks."""
        progress, settings = self.progress, self.settings
        seed = settings.seed + 7919 * progress.stage
        rng = torch.Generator().manual_seed(_mix(seed, progress.step, self.rank))
        set_learning_rate(self.engine, rate)
        for micro in range(settings.accumulation):
            batch = {
                name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                for name, value in self.data_wait.take(batches).items()
            }
            draw = progress.step * settings.accumulation + micro
            loss, metrics = self.engine(batch, seed=seed, step=draw, rng=rng)
            self.engine.backward(loss)
            self.engine.step()
            self.window.append({"loss": loss.detach(), **metrics})
        self._update_average()
        progress.step += 1
        progress.total_steps += 1

    def _update_average(self) -> None:
        """Every step, or every few where weights have to be gathered from float32 masters of all ranks."""
        every = AVERAGE_EVERY if self.settings.gpu or self.settings.zero_stage == 3 else 1
        if (self.progress.total_steps + 1) % every:
            return
        weights = full_weights(self.engine)
        if self.average is not None:
            self.average.update(weights, self.engine.module.buffers(), steps=every)
        else:
            for _ in weights:  # gathering is collective
                pass

    def _decide(self, steps: int, budget_s: float | None) -> tuple[float, bool]:
        """The stage's progress and whether to save now: rank 0's clock, the same answer on all ranks."""
        progress, settings = self.progress, self.settings
        now = time.monotonic()
        progress.elapsed_s += now - self.clock
        progress.stage_elapsed_s += now - self.clock
        self.clock = now
        done = schedule.stage_progress(progress.step, steps, progress.stage_elapsed_s, budget_s)
        if settings.checkpoint_steps:
            save = progress.step > 0 and progress.total_steps % settings.checkpoint_steps == 0
        else:
            save = now - self.saved_at > settings.checkpoint_minutes * 60
        save = save and progress.total_steps > self.saved_step and done < 1
        decision = torch.tensor(
            [done, float(save), progress.elapsed_s, progress.stage_elapsed_s], dtype=torch.float64
        )
        if self.world_size > 1:
            dist.broadcast(decision, src=0, group=self.control)
        done, saved, progress.elapsed_s, progress.stage_elapsed_s = decision.tolist()
        return done, bool(saved)

    def _stage_budget(self) -> float | None:
        if self.settings.minutes is None:
            return None
        stages = self.task.stages[self.progress.stage :]
        remaining = self.settings.minutes * 60 - (self.progress.elapsed_s - self.progress.stage_elapsed_s)
        costs = [stage.steps * stage.cost for stage in stages]
        return max(1e-3, schedule.stage_budget(remaining, costs))

    # ---------------------------------------------------------------- what is seen of it

    def _report_progress(self, steps: int, budget_s: float | None, rate: float) -> None:
        now = time.monotonic()
        if now - self.printed_at < _PRINT_EVERY_S and self.progress.step not in (1, steps):
            return
        means = _means(self.window)
        if means["loss"] != means["loss"] or abs(means["loss"]) == float("inf"):
            raise FloatingPointError(f"the loss is {means['loss']} at step {self.progress.total_steps}")
        speed = len(self.window) / self.settings.accumulation / max(1e-9, now - self.printed_at)
        self.window, self.printed_at = [], now
        data = self.data_wait.figures()
        if self.rank:
            return
        left_s = (steps - self.progress.step) / speed
        if budget_s:
            left_s = min(left_s, budget_s - self.progress.stage_elapsed_s)
        figures = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        left = time.strftime("%H:%M:%S", time.gmtime(max(0.0, left_s)))
        waits = f"{data['wait_share']:.1%} waiting for data"
        self._say(
            f"step {self.progress.step}/{steps}  {figures}  {speed:.2f} steps/s, {waits}  stage ends in {left}"
        )
        if self.run is not None:
            curves = {f"train/{name}": value for name, value in means.items()}
            curves |= {"train/learning_rate": rate, "train/steps_per_second": speed}
            curves |= {f"data/{name}": value for name, value in data.items()}
            norm = self.engine.get_global_grad_norm()
            if norm is not None:
                curves["train/gradient_norm"] = float(norm)
            self.run.log_metrics(curves, self.progress.total_steps)

    def _evaluate(self, stage: int) -> None:
        """Measures the average on rank 0 while the others wait at their next collective."""
        if self.average is None:
            return
        started = time.monotonic()
        with torch.no_grad():
            evaluation = self.task.evaluate(self.average.module, stage)
        self.figures = dict(evaluation.metrics)
        figures = "  ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
        self._say(f"evaluated in {time.monotonic() - started:.0f} s: {figures}")
        if self.run is None:
            return
        self.run.log_metrics(
            {f"eval/{name}": value for name, value in self.figures.items()}, self.progress.total_steps
        )
        for name, remark in evaluation.remarks.items():
            self.run.set_tag(f"eval.{name}", remark)
        for name, picture in evaluation.pictures.items():
            self.run.log_image(picture, f"eval/{name}_{self.progress.total_steps:07d}.png")

    def _say(self, text: str) -> None:
        if self.rank == 0:
            # Not `print`, which Ray Train patches and which then comes out twice.
            sys.stderr.write(f"[{self.task.kind}] {text}\n")
            sys.stderr.flush()

    # ---------------------------------------------------------------- checkpoints

    def _checkpoint(self) -> None:
        """Writes a checkpoint of all ranks through Ray Train and puts the averaged weights into the output folder."""
        target = exported_path(self.settings.output, self.task.kind)
        if self.average is not None:
            extra = {"step": self.progress.total_steps, "ended": self.progress.ended, "figures": self.figures}
            self.task.export(self.average.module, target, extra=extra)
        self.saved_at, self.saved_step = time.monotonic(), self.progress.total_steps
        metrics = {"step": self.progress.total_steps, **self.figures}
        if self.settings.workers == 0:  # Ray Train's local mode keeps no checkpoints
            ray.train.report(metrics)
            return
        folder = Path(tempfile.mkdtemp(prefix="checkpoint_"))
        save_engine(self.engine, folder)
        if self.average is not None:
            torch.save(self.average.state_dict(), folder / _AVERAGE_FILE)
            state = {"progress": asdict(self.progress), "workers": self.world_size, "figures": self.figures}
            (folder / _STATE_FILE).write_text(json.dumps(state))
            shutil.copyfile(target, folder / target.name)
        checkpoint = ray.train.Checkpoint.from_directory(str(folder))
        ray.train.report(metrics, checkpoint=checkpoint, delete_local_checkpoint_after_upload=True)

    def _restore(self) -> None:
        self.saved_step = 0
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            state = json.loads((Path(folder) / _STATE_FILE).read_text())
            if state["workers"] != self.world_size:
                raise ValueError(
                    f"the checkpoint is of {state['workers']} workers and can't be resumed with {self.world_size}"
                )
            load_engine(self.engine, Path(folder))
            if self.average is not None:
                saved = torch.load(Path(folder) / _AVERAGE_FILE, map_location=self.device, weights_only=True)
                self.average.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        self.figures = state["figures"]
        self.saved_step = self.progress.total_steps
        self._say(f"goes on from the checkpoint at step {self.progress.total_steps}")


def exported_path(output: str | Path, kind: str) -> Path:
    """Where a task's averaged weights are exported to."""
    return Path(output) / f"{kind}.safetensors"


def _mix(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 4099 + rank) % 2**63


def _means(window: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means of what was logged since the last line; metrics may be missing in some steps."""
    names = sorted({name for entry in window for name in entry}, key=lambda name: (name != "loss", name))
    values = {name: [float(entry[name]) for entry in window if name in entry] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}

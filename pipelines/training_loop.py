"""What runs in every training worker: the loop over training stages and steps.

All ranks take the same branches: rank 0 decides whatever depends on a clock and broadcasts it before the step. Random
draws come from (seed, step) and, where they may differ, the rank; so a resumed run neither repeats nor skips any.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from torch import nn

from pipelines import schedule, training_checkpoints
from pipelines.data_wait import DataWait
from pipelines.ema import WeightAverage
from pipelines.engine import (
    deepspeed_config,
    full_weights,
    leave_process_group,
    set_learning_rate,
    start_engine,
)
from pipelines.task import Batch, DataShard, Task
from pipelines.training_checkpoints import TrainingProgress, exported_path
from pipelines.training_report import TrainingReport
from pipelines.training_settings import TrainingSettings
from portrait import tracking

AVERAGE_EVERY = 10
"""Steps between updates of the weight average where every update has to gather the weights."""


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
    """Ray Train's entry point; returns the metrics of the last evaluation (rank 0's)."""
    if config["settings"].workers:
        logging.disable(logging.INFO)  # Ray Train logs every report of every rank
        return TrainingLoop(config["task"], config["settings"], config["run"]).train()
    try:
        return TrainingLoop(config["task"], config["settings"], config["run"]).train()
    finally:
        leave_process_group()


class TrainingLoop:
    """One rank's part of a training run."""

    def __init__(self, task: Task, settings: TrainingSettings, run: tracking.Run | None) -> None:
        context = ray.train.get_context()
        self.task, self.settings = task, settings
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = (
            torch.device("cuda", torch.cuda.current_device()) if settings.gpu else torch.device("cpu")
        )
        if not settings.gpu:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)  # of the initial weights
        model = task.build()
        self.average = self._start_average(model) if self.rank == 0 else None
        config = deepspeed_config(
            zero_stage=settings.zero_stage,
            micro_batch=task.stages[0].batch_size,
            accumulation=settings.accumulation,
            gradient_clip=task.optimizer.gradient_clip,
            bfloat16=settings.gpu,
            autocast=settings.autocast and not settings.gpu,
        )
        self.engine = start_engine(TaskLoss(task, model), config, task.optimizer, gpu=settings.gpu)
        # Rank 0's decisions travel between CPUs, so that no GPU has to wait for them.
        group = dist.new_group(backend="gloo") if settings.gpu else None
        self.control = group if isinstance(group, dist.ProcessGroup) else None
        self.report = TrainingReport(task.kind, run, accumulation=settings.accumulation, rank=self.rank)
        self.data_wait = DataWait()
        self.progress, self.metrics = TrainingProgress(), dict[str, float]()
        self._restore()
        self.saved_at, self.saved_step = time.monotonic(), self.progress.total_steps

    def _start_average(self, model: nn.Module) -> WeightAverage:
        average = WeightAverage(self.task.build(), self.task.optimizer.ema_decay)
        average.module.load_state_dict(model.state_dict())
        average.module.to(self.device)
        return average

    def train(self) -> dict[str, float]:
        """Runs the remaining training stages; returns the metrics of the last evaluation."""
        while not self.progress.ended:
            self._run_stage()
            progress = self.progress
            progress.stage, progress.step, progress.stage_elapsed_s = progress.stage + 1, 0, 0.0
            progress.ended = progress.stage == len(self.task.stages)
            self._checkpoint()
        return self.metrics

    # ---------------------------------------------------------------- steps

    def _run_stage(self) -> None:
        progress, settings = self.progress, self.settings
        stage, count = self.task.stages[progress.stage], len(self.task.stages)
        batches = self.task.batches(progress.stage, self._shard())
        budget_s = self._stage_budget()
        self.clock = time.monotonic()
        self.report.restart_clock()
        self.report.say(
            f"training stage {progress.stage + 1}/{count} ({stage.name}): up to {stage.steps} steps"
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
            if self.report.is_due(progress.step, stage.steps):
                self.report.report_step(
                    progress,
                    steps=stage.steps,
                    budget_s=budget_s,
                    learning_rate=rate,
                    waiting=self.data_wait.metrics(),
                    gradient_norm=self.engine.get_global_grad_norm(),
                )
            if settings.evaluate_steps and progress.total_steps % settings.evaluate_steps == 0:
                self._evaluate()
        self._evaluate()

    @property
    def _stage_seed(self) -> int:
        return self.settings.seed + 7919 * self.progress.stage

    def _shard(self) -> DataShard:
        return DataShard(
            rank=self.rank,
            world_size=self.world_size,
            seed=self._stage_seed,
            start_step=self.progress.step * self.settings.accumulation,
            readers=self.settings.readers,
        )

    def _step(self, batches: Iterator[Batch], rate: float) -> None:
        """One optimiser step of all ranks."""
        progress, accumulation = self.progress, self.settings.accumulation
        rng = torch.Generator().manual_seed(_mix(self._stage_seed, progress.step, self.rank))
        set_learning_rate(self.engine, rate)
        for micro in range(accumulation):
            batch = {
                name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                for name, value in self.data_wait.take(batches).items()
            }
            loss, metrics = self.engine(
                batch, seed=self._stage_seed, step=progress.step * accumulation + micro, rng=rng
            )
            self.engine.backward(loss)
            self.engine.step()
            self.report.add({"loss": loss.detach(), **metrics})
        self._update_average()
        progress.step += 1
        progress.total_steps += 1

    def _update_average(self) -> None:
        """After every step, or every few steps where the weights have to be gathered from all ranks."""
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
        """How much of the training stage is done, 0 … 1, and whether to save now: rank 0's answer, on all ranks."""
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
        """Seconds that the current training stage may take; None if there is no time limit."""
        if self.settings.minutes is None:
            return None
        stages = self.task.stages[self.progress.stage :]
        remaining = self.settings.minutes * 60 - (self.progress.elapsed_s - self.progress.stage_elapsed_s)
        costs = [stage.steps * stage.cost for stage in stages]
        return max(1e-3, schedule.stage_budget(remaining, costs))

    # ---------------------------------------------------------------- evaluations and checkpoints

    def _evaluate(self) -> None:
        """Measures the weight average on rank 0, while the others wait at their next collective."""
        if self.average is None:
            return
        started = time.monotonic()
        with torch.no_grad():
            evaluation = self.task.evaluate(self.average.module, self.progress.stage)
        self.metrics = dict(evaluation.metrics)
        self.report.report_evaluation(
            evaluation, seconds=time.monotonic() - started, total_steps=self.progress.total_steps
        )

    def _checkpoint(self) -> None:
        """Exports the averaged weights to the output folder and writes a checkpoint of all ranks."""
        weights = exported_path(self.settings.output, self.task.kind)
        if self.average is not None:
            extra = {"step": self.progress.total_steps, "ended": self.progress.ended, "metrics": self.metrics}
            self.task.export(self.average.module, weights, extra=extra)
        self.saved_at, self.saved_step = time.monotonic(), self.progress.total_steps
        metrics = {"step": self.progress.total_steps, **self.metrics}
        if self.settings.workers == 0:  # Ray Train's local mode keeps no checkpoints
            ray.train.report(metrics)
            return
        checkpoint = training_checkpoints.write(
            self.engine,
            self.average,
            self.progress,
            self.metrics,
            rank=self.rank,
            world_size=self.world_size,
            weights=weights,
        )
        ray.train.report(metrics, checkpoint=checkpoint, delete_local_checkpoint_after_upload=True)

    def _restore(self) -> None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        self.progress, self.metrics = training_checkpoints.restore(
            checkpoint, self.engine, self.average, world_size=self.world_size
        )
        self.report.say(f"resumed from the checkpoint at step {self.progress.total_steps}")


def _mix(seed: int, step: int, rank: int) -> int:
    """A seed for each (seed, step, rank)."""
    return (seed * 1_000_003 + step * 4099 + rank) % 2**63

"""Cuts planned files over the cluster, in Ray Data tasks.

A task cuts one shard of the files, writes their clips as fragments of the table, then its part of the record of runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
import ray.data

from data_prep.crash_guard import MAX_CRASHES, CrashGuard
from data_prep.cut_file import cut_file
from data_prep.cut_settings import CutSettings
from data_prep.hashing import footage_of
from data_prep.plan import Plan
from data_prep.progress import ProgressLine
from data_prep.rejects import Reject
from data_prep.runs import ClipSummary, CutFile, Runs, task_lines, task_name
from data_prep.sources.footage import Footage
from data_prep.target import cannot_write
from portrait.storage.clips import write_clips

FILES_PER_SHARD = 64
"""Most files in one task: what a killed run may have to repeat per worker."""


def cut_files(plan: Plan, settings: CutSettings, run: str) -> None:
    """Cuts the files of a plan in shards; what each of them did ends up in the record of runs.

    Args:
        plan: the files, and the split of each identity.
        settings: how to cut them.
        run: id of the run.

    Raises:
        ValueError: the table cannot be written.
    """
    if not plan.todo:
        return
    # Several shards per core balance the load; a shard is one fragment, so that large runs don't write tiny files.
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    shards = max(min(len(plan.todo), 4 * cores), -(-len(plan.todo) // FILES_PER_SHARD))
    items = [_item(file, content, plan.splits[file.identity]) for file, content in plan.todo]
    dataset = ray.data.from_items(items, override_num_blocks=shards)
    cut = partial(_cut_shard, uri=plan.uri, settings=settings, run=run)
    outcomes = dataset.map_batches(cut, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)
    clips = rejects = 0
    with ProgressLine("cutting clips", total=len(plan.todo), unit="file") as progress:
        for outcome in outcomes.iter_rows():
            if outcome["error"]:
                raise ValueError(outcome["error"])
            clips, rejects = clips + outcome["clips"], rejects + outcome["rejects"]
            progress.advance(outcome["files"], f"{clips} clips, {rejects} rejects")


def _item(file: Footage, content: str, split: str) -> dict[str, Any]:
    """A planned file as a row for `_cut_shard`."""
    return {**asdict(file), "content": content, "split": split, "fixed": file.split is not None}


def _cut_shard(batch: Any, *, uri: str, settings: CutSettings, run: str) -> dict[str, list[Any]]:
    """Cuts the files of a block, writes their clips as fragments, then the record that makes them count.

    Returns:
        One row with the numbers of files, clips and rejects. An error of the target is a value in it, because an
        exception raised in a Ray Data task reaches the driver without its type.
    """
    items = batch.to_pylist()
    if not items:
        return _outcome()
    runs = Runs(uri, settings.digest())
    task = task_name(run, (item["content"] for item in items))
    guard = CrashGuard(runs, run, task)
    shard = _Shard(items, settings, guard)
    try:
        fragments = write_clips(uri, shard.rows())
        runs.write_task(run, task, [*guard.lines(), *task_lines(shard.files, fragments)])
    except OSError as error:
        with contextlib.suppress(OSError):
            runs.remove_task(run, task)
        # Lance turns an error of the rows' iterator into one of its own: report the original.
        if shard.error is not None:
            raise shard.error from None
        return _outcome(error=cannot_write(uri, error))
    return _outcome(
        files=len(shard.files),
        clips=sum(len(file.clips) for file in shard.files),
        rejects=sum(len(file.rejects) for file in shard.files),
    )


class _Shard:
    """Cuts the files of a shard as Lance asks for rows, so that only one file's clips are in memory at a time."""

    def __init__(self, items: Sequence[dict[str, Any]], settings: CutSettings, guard: CrashGuard) -> None:
        self._items, self._settings, self._guard = items, settings, guard
        self.files: list[CutFile] = []
        self.error: Exception | None = None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the clips table."""
        try:
            for item in self._items:
                yield from self._cut(item)
        except Exception as error:
            self.error = error
            raise

    def _cut(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        fields = dict(item)
        content, split, fixed = fields.pop("content"), fields.pop("split"), fields.pop("fixed")
        footage = footage_of(fields)
        if self._guard.begin(content):
            rows, rejects = cut_file(footage, content, split, self._settings)
        else:
            times = "twice" if MAX_CRASHES == 2 else f"{MAX_CRASHES} times"
            reason = f"a worker crashed on this file {times}: it breaks a decoder or needs too much memory"
            rows, rejects = [], [Reject(path=footage.label, reason=reason, retry=True)]
        clips = [
            ClipSummary(
                clip_id=row["clip_id"],
                identity=row["identity"],
                split=row["split"],
                seconds=row["num_frames"] / row["fps"],
                fixed=fixed,
            )
            for row in rows
        ]
        self.files.append(CutFile(content=content, clips=tuple(clips), rejects=tuple(rejects)))
        return rows


def _outcome(files: int = 0, clips: int = 0, rejects: int = 0, error: str = "") -> dict[str, list[Any]]:
    return {"files": [files], "clips": [clips], "rejects": [rejects], "error": [error]}

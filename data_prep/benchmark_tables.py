"""The chain's benchmark as Markdown (a row a file against FFmpeg, and where the time goes) and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.benchmark import STAGES, FileCost, Ratio, ratio


def against_ffmpeg(costs: Sequence[FileCost], ffmpeg: str) -> str:
    """One row a file, then all files together.

    Args:
        costs: of the files, at least one with clips.
        ffmpeg: what transcoded them.
    """
    measured = [cost for cost in costs if cost.chain]
    lines = [
        f"One core; processor seconds, medians of {len(measured[0].chain)} repeats in which the chain and {ffmpeg} "
        "took turns. The ratio is FFmpeg's time over the chain's.",
        "",
        "| file | clips | video s | chain s | FFmpeg alone s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for cost in measured:
        ours = statistics.median(seconds.cpu for seconds in cost.chain)
        theirs = statistics.median(seconds.cpu for seconds in cost.ffmpeg)
        lines.append(
            f"| {Path(cost.footage.path).name} | {len(cost.rows)} | {cost.video_s:.1f} | {ours:.2f} | {theirs:.2f} | "
            f"{theirs / ours:.3f} |"
        )
    clips, video_s = sum(len(cost.rows) for cost in measured), sum(cost.video_s for cost in measured)
    for clock, name in (("cpu", "all"), ("wall", "all, by the clock")):
        ours, theirs = (
            statistics.median(
                sum(getattr(one, clock) for one in repeat) for repeat in zip(*runs, strict=True)
            )
            for runs in ([cost.chain for cost in measured], [cost.ffmpeg for cost in measured])
        )
        lines.append(
            f"| {name} | {clips} | {video_s:.1f} | {ours:.2f} ({clips / ours:.2f} clips/s) | "
            f"{theirs:.2f} ({clips / theirs:.2f} clips/s) | {_spread(ratio(measured, clock))} |"
        )
    left_out = [str(reject) for cost in costs for reject in cost.rejects]
    return "\n".join([*lines, *(f"\nLeft out: {text}" for text in left_out)]) + "\n"


def by_stage(costs: Sequence[FileCost]) -> str:
    """Where the chain's time goes, over all files with clips."""
    measured = [cost for cost in costs if cost.chain]
    spent = {stage: sum(cost.stages[stage] for cost in measured) for stage in (*STAGES, "the rest")}
    frames = sum(row["num_frames"] for cost in measured for row in cost.rows)
    total = sum(spent.values())
    lines = [
        "One run of its own under Python's profiler, processor time.",
        "",
        "| stage | s | ms a stored frame | share |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {stage} | {seconds:.2f} | {1000 * seconds / frames:.2f} | {seconds / total:.1%} |"
        for stage, seconds in spent.items()
    ]
    return "\n".join(lines) + "\n"


def as_records(costs: Sequence[FileCost]) -> list[dict[str, Any]]:
    """Everything that was measured, one dictionary a file."""
    return [
        {
            "file": Path(cost.footage.path).name,
            "clips": len(cost.rows),
            "video_s": cost.video_s,
            "stages": cost.stages,
            "chain": [asdict(seconds) for seconds in cost.chain],
            "ffmpeg": [asdict(seconds) for seconds in cost.ffmpeg],
            "rejects": [str(reject) for reject in cost.rejects],
        }
        for cost in costs
    ]


def _spread(found: Ratio) -> str:
    return f"{found.median:.3f} ({found.least:.3f} … {found.most:.3f})"

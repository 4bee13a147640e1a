"""The paper's ablation of the VAE: reference guidance and causal residual video auto-encoding (CR-VA).

Four models are trained in the same way (paper, "Ablation: reference guidance and causal residual video auto-encoding"):
with and without CR-VA, each once with 0 … 3 references and once without any. A row of the table is one of them at one
number of references M; its ΔPSNR is relative to the model that was trained without references and has the same
resampling. Beyond the paper's rows, the models trained with references are also measured without any (M = 0), which
shows what references are worth to one and the same model.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipelines import reconstruction
from pipelines.vae_task import VAETask
from portrait.media.tensors import frames_to_tensor
from portrait.metrics.perceptual import LPIPS
from portrait.metrics.reconstruction import l1, psnr
from portrait.vae import VideoVAE

NOT_MEASURED = "not measured"

Measured = dict[str, dict[int, dict[str, float]]]
"""What `measure` returned for each arm, by the arm's name."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of the four models."""

    name: str
    """Name of its folder and its runs."""
    label: str
    """Name in the table."""
    residual: bool
    """Whether it has CR-VA."""
    references: bool
    """Whether it is trained with 0 … 3 references, or without any."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of references at which it is measured."""
        return (0, 1, 2, 3) if self.references else (0,)

    def task(self, task: VAETask) -> VAETask:
        """`task` with this arm's resampling and number of references."""
        vae = dataclasses.replace(task.preset.vae, residual_resampling=self.residual)
        training = task.training
        if not self.references:
            training = dataclasses.replace(training, max_references=0)
        return dataclasses.replace(task, preset=dataclasses.replace(task.preset, vae=vae), training=training)


ARMS = (
    Arm(name="plain-no-ref", label="w/o CR-VA, no ref.", residual=False, references=False),
    Arm(name="plain", label="w/o CR-VA", residual=False, references=True),
    Arm(name="cr-va-no-ref", label="w. CR-VA, no ref.", residual=True, references=False),
    Arm(name="cr-va", label="w. CR-VA", residual=True, references=True),
)
"""The four models in the order of the paper's table."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table."""

    arm: str
    """Name of the arm."""
    label: str
    """Name in the table."""
    count: int
    """Number of references M."""
    l1: float
    """Mean absolute error of frames in [0, 1], which the paper's values must refer to."""
    psnr: float
    """In decibels."""
    delta: float | None
    """PSNR minus that of the model trained without references with the same resampling; None for that model itself."""
    lpips: float | None
    """None without weights of the backbone."""


@torch.no_grad()
def measure(
    vae: VideoVAE, clips: Iterable[reconstruction.HeldOutClip], counts: Sequence[int], lpips: LPIPS
) -> dict[int, dict[str, float]]:
    """Reconstruction errors for each number of references.

    Args:
        vae: the model.
        clips: held-out clips.
        counts: numbers of references M.
        lpips: omitted from the result if its backbone has no weights.

    Returns:
        M → means over the clips of `l1` (frames in [0, 1]), `psnr` in decibels and `lpips`.

    Raises:
        ValueError: there are no clips.
    """
    found: dict[int, dict[str, list[float]]] = {count: {} for count in counts}
    for clip in clips:
        truth = frames_to_tensor(clip.frames)[None]
        for count, video in reconstruction.reconstruct(vae, clip, counts).items():
            values = found[count]
            values.setdefault("l1", []).append(float(l1(video[None], truth)))
            values.setdefault("psnr", []).append(float(psnr(video[None], truth)))
            if lpips.available:
                values.setdefault("lpips", []).append(float(lpips(video[None], truth)))
    if not any(found.values()):
        raise ValueError("no held-out clips to measure on")
    return {count: {name: float(np.mean(v)) for name, v in values.items()} for count, values in found.items()}


def rows_of(measured: Measured) -> list[Row]:
    """The rows of one table.

    Arms that were not measured have no rows; without the arm that was trained without references, ΔPSNR is None.
    """
    base = {
        arm.residual: measured[arm.name][0]["psnr"]
        for arm in ARMS
        if not arm.references and arm.name in measured
    }
    rows = []
    for arm in ARMS:
        for count, metrics in measured.get(arm.name, {}).items():
            has_base = arm.references and arm.residual in base
            rows.append(
                Row(
                    arm=arm.name,
                    label=arm.label,
                    count=count,
                    l1=metrics["l1"],
                    psnr=metrics["psnr"],
                    delta=metrics["psnr"] - base[arm.residual] if has_base else None,
                    lpips=metrics.get("lpips"),
                )
            )
    return rows


def markdown(tables: Mapping[str, Sequence[Row]], facts: Mapping[str, Any]) -> str:
    """A list of `facts`, then one table for each clips table that was measured on."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    for name, rows in tables.items():
        lines += [
            "",
            f"**{name}**",
            "",
            "| setting | M | L1 | PSNR | ΔPSNR | LPIPS |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            delta = "–" if row.delta is None else f"{row.delta:+.3f}"
            lpips = NOT_MEASURED if row.lpips is None else f"{row.lpips:.3f}"
            lines.append(f"| {row.label} | {row.count} | {row.l1:.4f} | {row.psnr:.3f} | {delta} | {lpips} |")
    return "\n".join(lines) + "\n"


def as_csv(tables: Mapping[str, Sequence[Row]]) -> str:
    """The rows as comma-separated values; a field that was not measured is empty."""
    text = io.StringIO()
    names = ["data", *(field.name for field in dataclasses.fields(Row))]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for data, rows in tables.items():
        writer.writerows({"data": data, **dataclasses.asdict(row)} for row in rows)
    return text.getvalue()


def plot(tables: Mapping[str, Sequence[Row]]) -> np.ndarray:
    """PSNR against the number of references, one panel for each clips table: uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(tables), 3.8), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (name, rows) in zip(panels, tables.items(), strict=True):
        for arm in ARMS:
            points = [(row.count, row.psnr) for row in rows if row.arm == arm.name]
            colour = "#3a68b0" if arm.residual else "#b0643a"
            marker = "o-" if arm.references else "x"
            axes.plot(*zip(*points, strict=True), marker, color=colour, label=arm.label) if points else None
        axes.set(title=name, xlabel="references M", ylabel="PSNR / dB", xticks=range(4))
        axes.grid(alpha=0.3)
        axes.legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

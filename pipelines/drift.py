"""Drift of a long stream: sharpness, colour and identity compared with the references, and seams between blocks.

A stream is measured in stretches of some seconds. Shapes: T frames of H × W pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from portrait.generator import GeneratorConfig
from portrait.metrics.drift import colour_distance, sharpness
from portrait.metrics.identity import FaceEmbedder, identity_similarity
from portrait.speech.encoder import Samples
from portrait.streaming import Portrait, PortraitPipeline
from portrait.timing import FRAME_RATE, FRAMES_PER_LATENT, block_frame_range

NOT_MEASURED = "not measured or no face"
_EMBEDDED_FRAMES = 5
"""Number of frames per stretch that the face embedder sees; neighbouring frames show the same face."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The measurements of some seconds of a stream."""

    start_s: float
    """Start of the stretch in the stream, in seconds."""
    sharpness: float
    """Relative to the references: 1 is as sharp as they are."""
    colour: float
    """ΔE between the mean of the frames and the mean of the references, averaged over 8×8 cells."""
    identity: float | None
    """Cosine similarity with the references' face; None if it was not measured or no face was found."""
    shown: NDArray[np.uint8] = field(repr=False)
    """[H, W, 3], the middle frame."""
    differences: NDArray[np.float32] = field(repr=False)
    """[T], mean absolute difference of each frame from the previous one, 0 … 255; 0 for the first of the stream."""

    def metrics(self) -> dict[str, float]:
        """The measured values by name, without those that are None."""
        found = {"sharpness": self.sharpness, "colour": self.colour, "identity": self.identity}
        return {name: value for name, value in found.items() if value is not None}


def measure_drift(
    pipeline: PortraitPipeline,
    portrait: Portrait,
    audio: Iterable[Samples],
    *,
    seconds: float,
    stretch_s: float = 10.0,
    embedder: FaceEmbedder | None = None,
) -> Iterator[Stretch]:
    """Streams a portrait and measures the frames as they come; memory does not grow with the length of the stream.

    Args:
        pipeline: the models.
        portrait: the portrait to stream; its references are what the frames are compared with.
        audio: pieces of speech at 16 kHz, together at least `seconds` long.
        seconds: length of the stream.
        stretch_s: length of a stretch in seconds.
        embedder: measures identity; None skips it.

    Yields:
        Stretches in order. An incomplete one at the end is dropped.
    """
    references = portrait.pictures
    own = sharpness(references)
    length, total = round(stretch_s * FRAME_RATE), round(seconds * FRAME_RATE)
    kept = np.zeros((0, *references.shape[1:]), np.uint8)
    before: NDArray[np.uint8] | None = None
    start = 0
    for block in pipeline.stream(portrait, audio):
        kept = np.concatenate([kept, block.frames])
        while len(kept) >= length:
            frames, kept = kept[:length], kept[length:]
            sequence = np.concatenate([frames[:1] if before is None else before[None], frames]).astype(
                np.int16
            )
            before = frames[-1]
            chosen = frames[np.linspace(0, length - 1, _EMBEDDED_FRAMES).round().astype(int)]
            yield Stretch(
                start_s=start / FRAME_RATE,
                sharpness=sharpness(frames) / own,
                colour=colour_distance(frames, references),
                identity=identity_similarity(embedder, chosen, references) if embedder else None,
                shown=frames[length // 2],
                differences=np.abs(np.diff(sequence, axis=0)).mean(axis=(1, 2, 3), dtype=np.float32),
            )
            start += length
            if start + length > total:
                return


@dataclass(frozen=True, kw_only=True)
class Seams:
    """Mean difference between neighbouring frames, 0 … 255, by position. Equal values mean that no seam is visible."""

    windows: float
    """Where a new window begins; NaN if the stream has only one."""
    blocks: float
    """Where a new block begins within a window."""
    latents: float
    """Where another latent begins within a block: a VAE whose motion is jerky jumps at every latent."""
    elsewhere: float
    """Between two frames of the same latent."""


def seams(stretches: Sequence[Stretch], config: GeneratorConfig, *, rolling: bool = False) -> Seams:
    """Compares the frame differences at the starts of windows, blocks and latents with those elsewhere.

    Args:
        stretches: the whole stream from its first frame on.
        config: gives the length of a window.
        rolling: whether the window rolls, so that no second window begins.
    """
    differences = np.concatenate([stretch.differences for stretch in stretches])
    block, starts, new_window = 1, [], []
    while (start := block_frame_range(block)[0]) < len(differences):
        starts.append(start)
        # Every window after the first starts with the last block of the one before, so it adds one block less.
        later = block - config.window_blocks
        new_window.append(not rolling and later >= 0 and later % (config.window_blocks - 1) == 0)
        block += 1
    block_starts, at_window = np.array(starts), np.array(new_window)
    frames = np.arange(len(differences))
    latent_starts = (frames > 0) & ((frames - 1) % FRAMES_PER_LATENT == 0)
    within_latents = (frames > 0) & ~latent_starts
    latent_starts[block_starts] = False
    at_windows = differences[block_starts[at_window]]
    return Seams(
        windows=float(at_windows.mean()) if len(at_windows) else float("nan"),
        blocks=float(differences[block_starts[~at_window]].mean()),
        latents=float(differences[latent_starts].mean()),
        elsewhere=float(differences[within_latents].mean()),
    )


def markdown(
    measured: Mapping[str, Sequence[Stretch]],
    facts: Mapping[str, str],
    config: GeneratorConfig,
    *,
    rolling: Collection[str] = (),
) -> str:
    """Report in Markdown: the first and the last minute of each generator side by side, then the seams.

    Args:
        measured: stretches of each generator by its name.
        facts: what was measured and how, listed above the tables.
        config: of the generators; gives the length of a window.
        rolling: names of the generators whose window rolls.
    """
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| generator | metric | first minute | last minute | change |", "|---|---|---|---|---|"]
    for name, stretches in measured.items():
        first, last = minutes_at_both_ends(stretches)
        for metric in ("sharpness", "colour", "identity"):
            cells = [f"{end[metric]:.3f}" if metric in end else NOT_MEASURED for end in (first, last)]
            change = f"{last[metric] - first[metric]:+.3f}" if metric in first and metric in last else ""
            lines.append(f"| {name} | {metric} | {cells[0]} | {cells[1]} | {change} |")
    lines += [
        "",
        "| generator | frame difference where a window begins | where a block begins | where another latent begins | "
        "within a latent |",
        "|---|---|---|---|---|",
    ]
    for name, stretches in measured.items():
        seen = seams(stretches, config, rolling=name in rolling)
        windows = "–" if np.isnan(seen.windows) else f"{seen.windows:.2f}"
        lines.append(
            f"| {name} | {windows} | {seen.blocks:.2f} | {seen.latents:.2f} | {seen.elsewhere:.2f} |"
        )
    return "\n".join(lines) + "\n"


def minutes_at_both_ends(stretches: Sequence[Stretch]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean metrics of the first and the last minute, or of the two halves of a stream shorter than two minutes."""
    within = [s for s in stretches if s.start_s < stretches[0].start_s + 60]
    count = min(len(within), max(1, len(stretches) // 2))
    return _means(stretches[:count]), _means(stretches[-count:])


def _means(stretches: Sequence[Stretch]) -> dict[str, float]:
    found = [stretch.metrics() for stretch in stretches]
    names = dict.fromkeys(name for metrics in found for name in metrics)
    return {name: float(np.mean([metrics[name] for metrics in found if name in metrics])) for name in names}


def plot(measured: Mapping[str, Sequence[Stretch]]) -> NDArray[np.uint8]:
    """Plots the metrics over time with one line per generator: uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = {
        "sharpness": "sharpness relative to the references",
        "colour": "ΔE from the references",
        "identity": "cosine similarity with the references' face",
    }
    figure = Figure(figsize=(13, 3.6), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (name, label) in zip(figure.subplots(1, 3), labels.items(), strict=True):
        for generator, stretches in measured.items():
            points = [(s.start_s / 60, s.metrics()[name]) for s in stretches if name in s.metrics()]
            if points:
                axes.plot(*zip(*points, strict=True), label=generator)
        axes.set(title=label, xlabel="minutes")
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

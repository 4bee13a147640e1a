"""Effect of the guidance scales for speech (λ_a) and references (λ_r) on sync, identity and diversity.

This is the paper's guidance ablation, measured on synthetic heads, because their true mouth opening is known. Shapes:
T frames of H × W pixels.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation import GenerationSubject, generate
from portrait.generator import Generator
from portrait.metrics.correlation import correlation
from portrait.metrics.drift import colour_distance, sharpness
from portrait.metrics.identity import FaceEmbedder, identity_similarity
from portrait.metrics.lip_aperture import lip_aperture
from portrait.metrics.motion import diversity, head_motion
from portrait.presets import Preset
from portrait.speech import build_speech_encoder
from portrait.streaming import PortraitPipeline
from portrait.vae import VideoVAE

METRICS: Mapping[str, str] = {
    "sync": "correlation of the mouth opening with the true one",
    "identity": "cosine similarity with the references' face",
    "colour": "ΔE from the references",
    "sharpness": "sharpness relative to the references",
    "mouth_diversity": "mean distance between the mouth openings of two seeds",
    "head_diversity": "mean distance between the head positions of two seeds, as a fraction of the frame size",
}
"""Metrics of a row and their descriptions, as the report lists them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The measurements for one pair of scales."""

    audio: float
    """λ_a."""
    reference: float
    """λ_r."""
    metrics: Mapping[str, float]
    """Means over subjects and seeds; without identity if it was not measured."""
    shown: NDArray[np.uint8]
    """[H, W, 3], the last frame of the first subject's first take."""


def sweep(
    vae: VideoVAE,
    generator: Generator,
    preset: Preset,
    subjects: Sequence[GenerationSubject],
    *,
    scales: Sequence[float],
    seeds: int,
    embedder: FaceEmbedder | None = None,
) -> Iterator[Row]:
    """Measures every pair of guidance scales.

    Args:
        vae: decodes the videos and encodes the references.
        generator: the generator whose guidance is swept.
        preset: configures speech encoder and sampling, except for the guidance scales.
        subjects: the heads to animate, from one reference each.
        scales: the values that both λ_a and λ_r take.
        seeds: number of takes per subject, at least 2.
        embedder: measures identity; None skips it.

    Yields:
        One row per pair; λ_r varies fastest.
    """
    encoder = build_speech_encoder(preset.speech, device=str(generator.device))
    for audio, reference in product(scales, repeat=2):
        sampling = replace(preset.sampling, audio_guidance=audio, reference_guidance=reference)
        pipeline = PortraitPipeline(encoder, generator, vae, sampling)
        found: dict[str, list[float]] = defaultdict(list)
        last_frames = []
        for subject in subjects:
            takes = [
                generate(pipeline, vae, subject.references[:1], subject.audio, seed=seed)
                for seed in range(seeds)
            ]
            last_frames.append(takes[0][-1])
            for name, value in metrics_of(subject, takes, embedder).items():
                found[name].append(value)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        yield Row(audio=audio, reference=reference, metrics=means, shown=last_frames[0])


def metrics_of(
    subject: GenerationSubject, takes: Sequence[NDArray[np.uint8]], embedder: FaceEmbedder | None
) -> dict[str, float]:
    """Metrics of one subject, averaged over its takes (each uint8 [T, H, W, 3], one per seed)."""
    references = subject.references[:1]
    openings = [lip_aperture(frames) for frames in takes]
    # The correlation of a mouth that does not move is NaN; it counts as 0.
    sync = [np.nan_to_num(correlation(o, subject.opening[: len(o)])) for o in openings]
    own = sharpness(references)
    metrics = {
        "sync": float(np.mean(sync)),
        "colour": float(np.mean([colour_distance(frames, references) for frames in takes])),
        "sharpness": float(np.mean([sharpness(frames) for frames in takes])) / own,
        "mouth_diversity": diversity(openings),
        "head_diversity": diversity([head_motion(frames) for frames in takes]),
    }
    if embedder is not None:
        similar = [identity_similarity(embedder, frames[::10], references) for frames in takes]
        seen = [value for value in similar if value is not None]
        if seen:
            metrics["identity"] = float(np.mean(seen))
    return metrics


def markdown(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """The rows as a Markdown table below `facts` and the descriptions of the metrics."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += [f"- {name}: {words}" for name, words in METRICS.items()]
    lines += ["", "| λ_a | λ_r | " + " | ".join(METRICS) + " |", "|---|---|" + "---|" * len(METRICS)]
    for row in rows:
        cells = [f"{row.metrics[name]:.4f}" if name in row.metrics else "not measured" for name in METRICS]
        lines.append(f"| {row.audio:g} | {row.reference:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as comma-separated values; the field of a metric that was not measured is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["audio_guidance", "reference_guidance", *METRICS])
    for row in rows:
        writer.writerow([row.audio, row.reference, *(row.metrics.get(name, "") for name in METRICS)])
    return text.getvalue()

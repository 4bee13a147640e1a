"""Evaluates a VAE and a generator: reconstruction by number of references, and whether the mouth follows the speech.

Mouth following is measured on synthetic heads that no training table contains, because their true mouth opening is
known. Speech with other words and the same length is the control. Shapes: T frames of H × W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines import reconstruction
from portrait.generator import Generator
from portrait.media.contact_sheet import SheetRow, contact_sheet
from portrait.media.tensors import frames_to_tensor, tensor_to_frames
from portrait.metrics.correlation import correlation
from portrait.metrics.lip_aperture import lip_aperture
from portrait.metrics.motion import head_motion, spread_of_motion
from portrait.metrics.perceptual import LPIPS
from portrait.metrics.reconstruction import l1, psnr
from portrait.presets import Preset
from portrait.speech import build_speech_encoder
from portrait.streaming import PortraitPipeline, prepare_portrait
from portrait.synthetic import render_clip
from portrait.timing import FRAME_RATE, whole_latent_frames
from portrait.vae import VideoVAE

UNSEEN_IDENTITIES = 9_000_000
"""Synthetic identities from this number on are reserved for evaluation; data preparation counts up from 0."""
_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class GenerationSubject:
    """A synthetic head that speaks, its true mouth opening, and a recording with other words as a control."""

    references: np.ndarray
    """uint8 [3, H, W, 3]: the first, last and middle frame."""
    frames: np.ndarray
    """uint8 [T, H, W, 3], the original video."""
    audio: np.ndarray
    """float32 [640·T] at 16 kHz, the speech of that video."""
    opening: np.ndarray
    """float32 [T], the true gap between the lips, relative to the gap at full opening."""
    wrong_audio: np.ndarray
    """float32 [640·T] at 16 kHz, other words in the same voice."""

    @classmethod
    def synthetic(cls, number: int, *, size: int, seconds: float = 4.0) -> GenerationSubject:
        """Renders the unseen identity with this number, counting from 0."""
        clip = render_clip(UNSEEN_IDENTITIES + number, seconds, size=size, clip_seed=0)
        other = render_clip(UNSEEN_IDENTITIES + number, seconds, size=64, clip_seed=1)
        last = len(clip.frames) - 1
        return cls(
            references=clip.frames[[0, last, last // 2]],
            frames=clip.frames,
            audio=clip.audio,
            opening=clip.mouth_opening,
            wrong_audio=other.audio,
        )


@dataclass(frozen=True, kw_only=True)
class FollowExample:
    """A subject and the video that was generated for it."""

    subject: GenerationSubject
    generated: np.ndarray
    """uint8 [T, H, W, 3], generated from the subject's own speech."""


@dataclass(frozen=True, kw_only=True)
class Following:
    """The result of `measure_following`."""

    metrics: dict[str, float]
    """Means over the subjects, by name."""
    examples: list[FollowExample]


def generate(
    pipeline: PortraitPipeline, vae: VideoVAE, references: np.ndarray, audio: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Streams a portrait that speaks `audio` (float32 at 16 kHz) and returns its frames, uint8 [T, H, W, 3]."""
    portrait = prepare_portrait(vae, list(references))
    return np.concatenate([block.frames for block in pipeline.stream(portrait, audio, seed=seed)])


def measure_following(
    vae: VideoVAE,
    generator: Generator,
    preset: Preset,
    subjects: Sequence[GenerationSubject],
    *,
    references: int = 1,
) -> Following:
    """Correlates the generated mouth opening with the true one, for the subject's own speech and for other speech.

    Returns:
        `follow_right` and `follow_wrong`: the correlation for the subject's own and for other speech.
        `follow_ceiling`: the correlation for the VAE's reconstruction of the original video with the same references,
        the most that a perfect generator could reach.
        `mouth_range` and `head_range`: because a correlation ignores how far a mouth opens, the standard deviation of
        the mouth opening and of the head position over time, relative to the original video.
        `mouth_range_ceiling` and `head_range_ceiling`: the same for the VAE's reconstruction.
    """
    encoder = build_speech_encoder(preset.speech, device=str(generator.device))
    pipeline = PortraitPipeline(encoder, generator, vae, preset.sampling)
    found: dict[str, list[float]] = defaultdict(list)
    examples = []
    for subject in subjects:
        shown = subject.references[:references]
        right = generate(pipeline, vae, shown, subject.audio)
        wrong = generate(pipeline, vae, shown, subject.wrong_audio)
        rebuilt = _reconstructed(vae, subject, references)
        made = {"right": right, "wrong": wrong, "ceiling": rebuilt}
        openings = {name: lip_aperture(frames) for name, frames in made.items()}
        for name, opening in openings.items():
            length = min(len(opening), len(subject.opening))
            found[f"follow_{name}"].append(correlation(opening[:length], subject.opening[:length]))
        true_range = lip_aperture(subject.frames).std()
        found["mouth_range"].append(openings["right"].std() / true_range)
        found["mouth_range_ceiling"].append(openings["ceiling"].std() / true_range)
        moved = {
            name: np.linalg.norm(head_motion(frames).std(axis=0))
            for name, frames in (("", right), ("_ceiling", rebuilt), ("true", subject.frames))
        }
        for name in ("", "_ceiling"):
            found[f"head_range{name}"].append(float(moved[name] / moved["true"]))
        examples.append(FollowExample(subject=subject, generated=right))
    # The correlation of a mouth that does not move is NaN; it counts as 0.
    metrics = {name: float(np.nan_to_num(values).mean()) for name, values in found.items()}
    return Following(metrics=metrics, examples=examples)


def _reconstructed(vae: VideoVAE, subject: GenerationSubject, references: int) -> np.ndarray:
    frames = subject.frames[: whole_latent_frames(len(subject.frames))]
    clip = reconstruction.HeldOutClip(clip_id="subject", frames=frames, references=subject.references)
    made = reconstruction.reconstruct(vae, clip, (references,))[references]
    return tensor_to_frames(made)


def follow_sheet(example: FollowExample) -> np.ndarray:
    """Contact sheet of references, original and generated frames with the speech's waveform: uint8 [H, W, 3]."""
    subject = example.subject
    length = min(len(example.generated), len(subject.frames))
    shown = np.linspace(0, length - 1, _COLUMNS).round().astype(int)
    rows = [
        SheetRow(label="references", frames=subject.references),
        SheetRow(label="original", frames=subject.frames[shown], timed=True),
        SheetRow(label="generated", frames=example.generated[shown], timed=True),
    ]
    return contact_sheet(rows, audio=subject.audio, frame_times=(shown + 0.5) / FRAME_RATE)


def reconstruction_metrics(
    vae: VideoVAE,
    clips: Iterable[reconstruction.HeldOutClip],
    counts: Sequence[int] = (0, 1, 2, 3),
    lpips: LPIPS | None = None,
) -> dict[str, float]:
    """Reconstructs clips with each number of references in `counts` and averages the metrics over the clips.

    Returns:
        For each number of references M: `psnr_mM` in dB, `l1_mM` of frames in [0, 1], `motion_within_mM` and
        `motion_between_mM` of `metrics.motion.spread_of_motion`, and `lpips_mM` if `lpips` has weights.
    """
    found: dict[str, list[float]] = {}
    for clip in clips:
        truth = frames_to_tensor(clip.frames)
        for count, video in reconstruction.reconstruct(vae, clip, counts).items():
            found.setdefault(f"psnr_m{count}", []).append(float(psnr(video[None], truth[None])))
            found.setdefault(f"l1_m{count}", []).append(float(l1(video[None], truth[None])))
            if lpips is not None and lpips.available:
                found.setdefault(f"lpips_m{count}", []).append(float(lpips(video[None], truth[None])))
            within, between = spread_of_motion(tensor_to_frames(video), clip.frames)
            found.setdefault(f"motion_within_m{count}", []).append(within)
            found.setdefault(f"motion_between_m{count}", []).append(between)
    return {name: float(np.mean(values)) for name, values in sorted(found.items(), reverse=True)}


def synthetic_clips(count: int, *, size: int, seconds: float = 3.0) -> list[reconstruction.HeldOutClip]:
    """Renders clips of unseen synthetic identities, with references chosen by the paper's protocol."""
    clips = []
    for number in range(count):
        frames = render_clip(UNSEEN_IDENTITIES + number, seconds, size=size).frames
        frames = frames[: whole_latent_frames(len(frames))]
        last = len(frames) - 1
        clips.append(
            reconstruction.HeldOutClip(
                clip_id=f"synthetic-{number}", frames=frames, references=frames[[0, last, len(frames) // 2]]
            )
        )
    return clips


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table; a metric that was not measured has the reason as its value."""
    lines = [
        f"Weights: {report['weights']}. Data: {report['data']}. Hardware: {report['hardware']}.",
        "",
        "| metric | value |",
        "|---|---|",
    ]
    for name, value in report["figures"].items():
        lines.append(f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |")
    return "\n".join(lines) + "\n"

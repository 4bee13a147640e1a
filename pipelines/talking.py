"""Lip sync (S_C, S_D) and identity of videos generated from held-out people's own speech.

As in the paper's comparison, the generator gets a clip's references and speech, and the generated video is scored. The
scores of the original video are what a perfect generator would reach. Shapes: T frames of H × W pixels, M references.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.evaluation import generate
from pipelines.reconstruction import HeldOutClip, HeldOutClips, chosen_rows, read_clip
from portrait.generator import Generator
from portrait.media.audio import decode_flac
from portrait.metrics.identity import FaceEmbedder, identity_similarity
from portrait.metrics.synchrony import synchrony_of_video
from portrait.metrics.syncnet import SyncNet
from portrait.presets import Preset
from portrait.speech import build_speech_encoder
from portrait.streaming import PortraitPipeline
from portrait.timing import SAMPLES_PER_FRAME
from portrait.vae import VideoVAE


@dataclass(frozen=True, kw_only=True)
class SpokenClip:
    """A held-out clip and its audio."""

    clip: HeldOutClip
    audio: np.ndarray
    """float32 [640·T] at 16 kHz."""


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Networks that score a talking portrait; metrics of a missing network are not measured."""

    syncnet: SyncNet | None = None
    embedder: FaceEmbedder | None = None

    @property
    def any(self) -> bool:
        """Whether at least one network is given."""
        return self.syncnet is not None or self.embedder is not None


def spoken_clips(held_out: HeldOutClips, size: int, count: int) -> Iterator[SpokenClip]:
    """Reads the first `count` of the held-out clips with their audio, one at a time."""
    rows = held_out.table.rows(("clip_id", "num_frames"))
    for index in chosen_rows(held_out.table, split=held_out.split, count=count, source=held_out.source):
        ((video, audio),) = held_out.table.read_media([index])
        clip = read_clip(rows[index], video, size)
        yield SpokenClip(clip=clip, audio=decode_flac(audio)[: SAMPLES_PER_FRAME * len(clip.frames)])


def measure_talking(
    vae: VideoVAE,
    generator: Generator,
    preset: Preset,
    clips: Iterable[SpokenClip],
    judges: Judges,
    *,
    references: int = 1,
) -> dict[str, float]:
    """Generates a video for each clip and averages the scores of the generated and of the original videos.

    Returns:
        `sync_confidence` (S_C) and `sync_distance` (S_D) if there is a SyncNet, `identity` (cosine with the references)
        if there is an embedder; the same names with the suffix `_true` for the original videos. Only clips whose two
        videos both have a score count. `sync_lost` and `identity_lost` are the numbers of clips of which only the
        original has one, because no face is found in the generated video.
    """
    encoder = build_speech_encoder(preset.speech, device=str(generator.device))
    pipeline = PortraitPipeline(encoder, generator, vae, preset.sampling)
    found: defaultdict[str, list[float]] = defaultdict(list)
    lost: Counter[str] = Counter()
    for spoken in clips:
        shown = spoken.clip.references[:references]
        made = generate(pipeline, vae, shown, spoken.audio)[: len(spoken.clip.frames)]
        judged = _judge(made, spoken.audio, shown, judges)
        for name, true in _judge(spoken.clip.frames, spoken.audio, shown, judges).items():
            if name in judged:
                found[name].append(judged[name])
                found[f"{name}_true"].append(true)
            else:
                lost[name] += 1
    metrics = {name: float(np.mean(values)) for name, values in found.items()}
    if judges.syncnet is not None:
        metrics["sync_lost"] = float(lost["sync_confidence"])
    if judges.embedder is not None:
        metrics["identity_lost"] = float(lost["identity"])
    return metrics


def _judge(frames: np.ndarray, audio: np.ndarray, references: np.ndarray, judges: Judges) -> dict[str, float]:
    """Scores of one video; empty if no face is found."""
    metrics = {}
    if judges.syncnet is not None:
        sync = synchrony_of_video(judges.syncnet, frames, audio)
        if sync is not None:
            metrics |= {"sync_confidence": sync.confidence, "sync_distance": sync.distance}
    if judges.embedder is not None:
        likeness = identity_similarity(judges.embedder, frames, references)
        if likeness is not None:
            metrics["identity"] = likeness
    return metrics

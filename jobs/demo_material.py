"""What the demo shows its models at the end: a person and a piece of speech that no training has seen.

On synthetic heads the speech is synthesised anew, so that the mouth's true opening is known. On footage the person and
the speech are those of a clip whose identity was held out, and the opening measured in that clip stands in for the
truth. Letters: T frames of 40 ms, S samples at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.reconstruction import HeldOutClip, held_out_split, read_clips
from portrait.media.audio import decode_flac, write_wav
from portrait.media.contact_sheet import save_png
from portrait.metrics.lip_aperture import lip_aperture
from portrait.storage.clip_collections import Clips, open_clips
from portrait.synthetic import speech
from portrait.timing import FRAME_RATE, SAMPLES_PER_FRAME

UNSEEN_SPEECH, OTHER_SPEECH = 990_001, 990_002
"""Seeds of speech that no rendered clip has: those are drawn from far larger numbers."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the client sends, and what its answer is measured against."""

    pictures: tuple[Path, ...]
    """The portrait's references as PNG files: the clip's first, last and middle frame."""
    wav: Path
    """The speech."""
    audio: np.ndarray
    """float32 [S], the same."""
    clip: HeldOutClip
    """The person's clip, for the reconstruction."""
    opening: np.ndarray
    """[T] the mouth's opening that belongs to the speech."""
    other_opening: np.ndarray
    """[T'] the opening that belongs to other speech: nothing should follow it."""
    rendered: bool
    """Whether the openings are rendered truth, or measured in footage."""
    split: str
    """The split that the clip is of; `train` where there were too few people to hold one out."""


def choose(clips: str, folder: Path, *, size: int, seconds: float, synthetic: bool) -> Material:
    """Writes the portrait's pictures and the speech into `folder`.

    Raises:
        ValueError: the table has no clips.
    """
    table = open_clips(clips)
    split = held_out_split(table)
    held_out = read_clips(table, split=split, size=size, count=2)
    if not held_out:
        raise ValueError(f"{clips} holds no clips")
    clip = held_out[0]
    pictures = []
    for name, picture in zip(("first", "last", "middle"), clip.references, strict=True):
        path = folder / f"reference_{name}.png"
        save_png(path, picture)
        pictures.append(path)
    if synthetic:
        audio, opening = speech(seconds, UNSEEN_SPEECH)
        _, other_opening = speech(seconds, OTHER_SPEECH)
    else:
        audio = _audio_of(table, clip)[: round(seconds * FRAME_RATE) * SAMPLES_PER_FRAME]
        opening = lip_aperture(clip.frames)
        other_opening = (
            lip_aperture(held_out[-1].frames) if len(held_out) > 1 else np.roll(opening, len(opening) // 2)
        )
    wav = folder / "speech.wav"
    write_wav(wav, audio)
    return Material(
        pictures=tuple(pictures),
        wav=wav,
        audio=audio,
        clip=clip,
        opening=opening,
        other_opening=other_opening,
        rendered=synthetic,
        split=split,
    )


def _audio_of(table: Clips, clip: HeldOutClip) -> np.ndarray:
    names = [row["clip_id"] for row in table.rows(("clip_id",))]
    return decode_flac(table.read_audio([names.index(clip.clip_id)])[0])

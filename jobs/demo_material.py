"""The portrait and the speech that the demo streams at its end; no model was trained on either.

The portrait is of a person who was held out. For synthetic heads new speech is synthesised, whose true mouth opening is
known. For footage the speech is that of the person's clip, and the opening measured in the clip stands in for the true
one. Shapes: T frames of 40 ms, S samples at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.reconstruction import HeldOutClip, held_out_split, read_clips
from portrait.media.audio import decode_flac, write_wav
from portrait.media.contact_sheet import save_png
from portrait.metrics.lip_aperture import lip_aperture
from portrait.storage.clip_collections import open_clips
from portrait.storage.clips import Clips
from portrait.synthetic import speech
from portrait.timing import FRAME_RATE, SAMPLES_PER_FRAME

UNSEEN_SPEECH, OTHER_SPEECH = 990_001, 990_002
"""Seeds of speech that no rendered clip uses; theirs are far larger numbers."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the client sends, and what the resulting video is compared with."""

    pictures: tuple[Path, ...]
    """The references as PNG files: the first, last and middle frame of the clip."""
    wav: Path
    """The speech as a WAV file."""
    audio: np.ndarray
    """float32 [S] at 16 kHz, the same speech."""
    clip: HeldOutClip
    """A clip of the person, to be reconstructed by the VAE."""
    opening: np.ndarray
    """float [T], the mouth opening that belongs to the speech."""
    other_opening: np.ndarray
    """float [T'], the mouth opening of other speech, as a control: the generated mouth should not follow it."""
    rendered: bool
    """Whether the openings are true ones of synthetic heads rather than measured in footage."""
    split: str
    """Split of the clip; `train` if there were too few people to hold one out."""


def choose(clips: str, folder: Path, *, size: int, seconds: float, synthetic: bool) -> Material:
    """Chooses a held-out person and speech, and writes references and speech to `folder`.

    Args:
        clips: the clips table.
        folder: where the PNG and WAV files go.
        size: side of the references in pixels.
        seconds: length of the speech; footage may give less.
        synthetic: whether the table contains synthetic heads, so that new speech can be synthesised for them.

    Raises:
        ValueError: the table has no clips.
    """
    table = open_clips(clips)
    split = held_out_split(table)
    held_out = read_clips(table, split=split, size=size, count=2)
    if not held_out:
        raise ValueError(f"{clips}: the table has no clips")
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

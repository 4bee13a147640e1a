"""A video's sound on the clock of its frames. Letter: `S` samples."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from portrait.media.audio import at_sample_rate
from portrait.media.audio_track import TrackPiece, iter_track
from portrait.media.container import MediaSource, label_of, open_media
from portrait.media.decoding import decode_frames, video_stream
from portrait.media.downmix import Downmix, without_cancellation
from portrait.media.track_choice import choose_audio_track
from portrait.timing import SAMPLE_RATE

_MAX_OFFSET_SECONDS = 60.0
"""Sound and frames that begin further apart do not belong together, whatever the file says."""


def read_soundtrack(
    source: MediaSource,
    *,
    num_samples: int | None = None,
    max_samples: int | None = None,
    name: str | None = None,
) -> np.ndarray | None:
    """Reads a video's sound on the clock of its frames: sample 0 is heard when the first frame is shown.

    Earlier sound is cut; where the sound begins later, silence fills in.

    Args:
        source: path or content.
        num_samples: cut or pad with silence to this many; None keeps the track's own length.
        max_samples: cut to this many, and never pad.
        name: what to call the file in errors.

    Returns:
        float32 [S], 16 kHz mono in [-1, 1], or None without a sound track.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video, damaged, or the sound begins far from the first frame.
    """
    label = label_of(source, name)
    with open_media(source, name=name) as container:
        if not container.streams.audio:
            return None
        first = next(decode_frames(container, video_stream(container, label), label), None)
        if first is None:
            raise ValueError(f"{label}: no frame could be decoded")
        video_start = float(first.time or 0.0)
    most = num_samples if max_samples is None else max_samples
    until = None if most is None else video_start + most / SAMPLE_RATE + 0.5
    number = choose_audio_track(source, label)

    def decode(downmix: Downmix) -> np.ndarray:
        with open_media(source, name=name) as container:
            track = iter_track(container, label=label, until_s=until, track=number, downmix=downmix)
            return at_sample_rate(_from_time(track, video_start, label))

    audio = without_cancellation(decode, label)
    if num_samples is None:
        return audio[:most]
    return np.pad(audio[:num_samples], (0, max(0, num_samples - audio.size)))


def _from_time(track: Iterator[TrackPiece], begin_s: float, label: str) -> Iterator[TrackPiece]:
    """A track from a time on, with silence where it begins later.

    Raises:
        ValueError: it is empty, or begins far from that time.
    """
    first = next((piece for piece in track if piece[0].size), None)
    if first is None:
        raise ValueError(f"{label}: the sound track is empty")
    _, rate, start_s = first
    if abs(start_s - begin_s) > _MAX_OFFSET_SECONDS:
        raise ValueError(
            f"{label}: damaged, the sound begins at {start_s:.0f} s and the video at {begin_s:.0f} s"
        )
    offset = round((start_s - begin_s) * rate)
    yield np.zeros(max(offset, 0), np.float32), rate, begin_s
    skip = max(-offset, 0)
    for samples, _, _ in chain((first,), track):
        yield samples[skip:], rate, begin_s
        skip -= min(skip, samples.size)

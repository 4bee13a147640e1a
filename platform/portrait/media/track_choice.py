"""Which of several sound tracks is read: the default one or, if that is silent, one that is not."""

from __future__ import annotations

import logging

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Disposition

from portrait.media.container import MediaSource, open_media
from portrait.media.downmix import Downmix

_LOG = logging.getLogger(__name__)
_SILENCE = 1e-3
"""Root mean square of a decoded frame's samples: -60 dB, below the noise of a room."""
_EXAMINED_SECONDS = 60.0
"""At most this much of the tracks is decoded for the choice."""


def choose_audio_track(source: MediaSource, label: str) -> int:
    """Chooses a file's sound track, and logs the choice if there are several.

    Args:
        source: path or content.
        label: the file's name for errors and the log.

    Returns:
        The track's number among the sound tracks, from 0; 0 also if there are no sound tracks.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a video or sound file.
    """
    with open_media(source, name=label) as container:
        tracks = container.streams.audio
        if len(tracks) < 2:
            return 0
        by_default = sorted(range(len(tracks)), key=lambda i: not tracks[i].disposition & Disposition.default)
        loudness = _examine(container, by_default[0], label)
    chosen = next((number for number in by_default if loudness[number] > _SILENCE), by_default[0])
    why = "the default one" if chosen == by_default[0] else f"number {by_default[0] + 1} is silent"
    _LOG.warning("%s: %d sound tracks, took number %d (%s)", label, len(loudness), chosen + 1, why)
    return chosen


def _examine(container: InputContainer, preferred: int, label: str) -> list[float]:
    """The loudest frame of every sound track until the preferred one is heard: root mean squares."""
    tracks = container.streams.audio
    loudness = [0.0] * len(tracks)
    numbers = {track.index: number for number, track in enumerate(tracks)}
    end = (container.start_time or 0) / av.time_base + _EXAMINED_SECONDS
    try:
        for packet in container.demux(*tracks):
            number = numbers[packet.stream_index]
            for frame in packet.decode():
                if not isinstance(frame, AudioFrame):
                    continue
                loudness[number] = max(loudness[number], _loudness(frame, label))
                if (frame.time or 0.0) > end:
                    return loudness
            if loudness[preferred] > _SILENCE:
                return loudness
    except av.error.FFmpegError:
        pass  # damage is reported when the chosen track is read
    return loudness


def _loudness(frame: AudioFrame, label: str) -> float:
    """Root mean square of a frame's samples."""
    samples = Downmix()(frame, label)
    return float(np.sqrt(np.mean(np.square(samples)))) if samples.size else 0.0

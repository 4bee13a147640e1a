"""Levels the input of the speech features: quiet speech is raised to the level of ordinary recordings.

A model that was trained on speech of ordinary level hardly opens the mouth for speech that is 20 dB below it. So every
40 ms frame gets a gain, which follows a running loudness of the speech: it rises fast, and falls slowly while someone
speaks, not in pauses. Ordinary and loud speech keep a gain of 0 dB, and background noise is never raised above
`LOUDEST_NOISE_DB`. A frame's gain depends on the samples up to its own end and on nothing later, so a stream has the
same gains as a whole recording, in pieces of any length. Levels are RMS in dB relative to full scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from portrait.timing import SAMPLES_PER_FRAME

TARGET_DB = -18.0
"""Loudness of ordinary recordings, to which quiet speech is raised."""
UNTOUCHED_DB, QUIET_DB = -21.0, -27.0
"""Loudness from which speech is left as it is, and below which it is raised all the way; a ramp lies between."""
MAX_GAIN_DB = 30.0
QUIETEST_SPEECH_DB = TARGET_DB - MAX_GAIN_DB
"""Recordings whose loudest frame is below this can't be raised to the target."""
LOUDEST_NOISE_DB = -45.0
"""The gain is limited so that the background stays below this level, an ordinary recording's."""
DIGITAL_SILENCE_DB = -90.0
"""Frames below this are gaps that say nothing about the background: noise that begins after them is not speech."""
QUIETEST_SPEECH_FRAME_DB = -56.0
"""Speech is never looked for below this level."""
SPEECH_OVER_NOISE_DB = 10.0
"""Frames that are louder than the background by this much count as speech."""
NOISE_WINDOW = 50
"""Frames (2 s) whose quietest one is taken for the background; speech has gaps in any two seconds."""
ATTACK = 0.5
"""Share of the distance to a louder frame that the loudness covers in a frame."""
RELEASE_DB = 0.08
"""How far the loudness falls in a quieter frame of speech: 2 dB/s."""
CONFIDENCE_FRAMES = 4
"""Frames of speech after which half of the gain is applied at the beginning, when the loudness is still uncertain."""


@dataclass(kw_only=True)
class LevellerState:
    """All that a leveller remembers of a stream."""

    pending: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """Samples of a frame that is not complete."""
    recent_db: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Levels of the last frames that are not digital silence, at most `NOISE_WINDOW`."""
    loudness_db: float = -np.inf
    """Running loudness of the speech."""
    speech_frames: int = 0
    """Frames of speech so far."""
    gain_db: float = 0.0
    """Gain at the end of the last frame."""

    def to_array(self) -> NDArray[np.float64]:
        """All but the pending samples as one array [3 + n], for export."""
        head = [self.loudness_db, float(self.speech_frames), self.gain_db]
        return np.concatenate((head, self.recent_db))

    @classmethod
    def from_array(cls, values: NDArray[np.float64], pending: NDArray[np.float32]) -> LevellerState:
        """The state that `to_array` and the pending samples describe.

        Raises:
            ValueError: the array is not one that `to_array` made.
        """
        if values.ndim != 1 or not 3 <= len(values) <= 3 + NOISE_WINDOW:
            raise ValueError(f"leveller state: expected 3 to {3 + NOISE_WINDOW} values, got {values.shape}")
        loudness, frames, gain = values[:3].tolist()
        return cls(
            pending=pending,
            recent_db=values[3:],
            loudness_db=loudness,
            speech_frames=int(frames),
            gain_db=gain,
        )


class Leveller:
    """Raises quiet speech in a stream; works in whole frames of 40 ms."""

    def __init__(self, state: LevellerState) -> None:
        self.state = state

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes samples (any number) and returns the levelled samples of the frames that are now complete."""
        samples = np.concatenate((self.state.pending, samples))
        whole = len(samples) - len(samples) % SAMPLES_PER_FRAME
        self.state.pending = samples[whole:].copy()
        frames = samples[:whole].reshape(-1, SAMPLES_PER_FRAME)
        return np.concatenate([np.zeros(0, np.float32), *(self._level(frame) for frame in frames)])

    def finish(self) -> NDArray[np.float32]:
        """Returns the incomplete last frame, levelled, with silence up to its end; empty if no frame is incomplete."""
        missing = -len(self.state.pending) % SAMPLES_PER_FRAME
        return self.push(np.zeros(missing, np.float32))

    def _level(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        before, after = self.state.gain_db, self._next_gain(level_db(frame))
        self.state.gain_db = after
        if before == after == 0:
            return frame
        # Without a step between frames, which would be heard as a click.
        ramp = before + (after - before) * np.arange(1, SAMPLES_PER_FRAME + 1) / SAMPLES_PER_FRAME
        return (frame * 10 ** (ramp / 20)).astype(np.float32)

    def _next_gain(self, level: float) -> float:
        state = self.state
        if level < DIGITAL_SILENCE_DB:
            return state.gain_db
        state.recent_db = np.append(state.recent_db, level)[-NOISE_WINDOW:]
        noise = float(state.recent_db.min())
        if level > max(noise + SPEECH_OVER_NOISE_DB, QUIETEST_SPEECH_FRAME_DB):
            state.speech_frames += 1
            if level > state.loudness_db:
                known = state.loudness_db if state.speech_frames > 1 else level
                state.loudness_db = known + ATTACK * (level - known)
            else:
                state.loudness_db = max(level, state.loudness_db - RELEASE_DB)
        if not state.speech_frames:
            return 0.0
        quiet = np.clip((UNTOUCHED_DB - state.loudness_db) / (UNTOUCHED_DB - QUIET_DB), 0.0, 1.0)
        wanted = min(quiet * (TARGET_DB - state.loudness_db), MAX_GAIN_DB, LOUDEST_NOISE_DB - noise)
        return max(0.0, float(wanted)) * (1 - 2 ** (-state.speech_frames / CONFIDENCE_FRAMES))


def loudest_frame_db(audio: NDArray[np.float32]) -> float:
    """Level of the loudest whole frame of audio [S]; −120 if there is no whole frame."""
    ends = range(SAMPLES_PER_FRAME, len(audio) + 1, SAMPLES_PER_FRAME)
    return max((level_db(audio[end - SAMPLES_PER_FRAME : end]) for end in ends), default=-120.0)


def level_db(samples: NDArray[np.float32]) -> float:
    """RMS of samples [S] in dB relative to full scale; −120 for silence."""
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-12))

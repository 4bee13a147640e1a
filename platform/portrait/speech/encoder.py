"""The interface of speech encoders, and the stream that makes offline and streaming features equal.

An encoder turns 16 kHz audio into one feature vector per video frame (25/s). It says which samples it needs for a range
of frames; `SpeechStream` keeps only those, and `SpeechEncoder.features` is a stream that receives all audio at once. So
training and streaming cannot see different numbers.

Shapes: S samples, n frames, dim channels of a frame's features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from portrait.speech.levelling import Leveller, LevellerState
from portrait.timing import SAMPLE_RATE, SAMPLES_PER_FRAME, frames_of_samples

Samples = NDArray[np.float32]

SHORTEST_AUDIO = SAMPLE_RATE // 40
"""Samples of the shortest recording that has features: one analysis window of 25 ms."""


def check_samples(samples: NDArray[np.generic], name: str = "audio") -> Samples:
    """Checks that audio is mono, floating point and finite; returns it as float32.

    Raises:
        ValueError: they are not one-dimensional, not floating point, or not finite.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"{name} must be mono samples [S], got shape {samples.shape}")
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"{name} must be floating point in [-1, 1], got {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{name} contains NaN or infinite samples")
    return samples.astype(np.float32, copy=False)


class SpeechEncoder(ABC):
    """Audio to features [n, dim], with frozen weights."""

    dim: int
    """Channels of a frame's features."""
    id: str
    """Kind and parameters, or a hash of the weights: equal ids give equal features."""
    look_ahead_samples: int
    """Audio after a frame's chunk that its features may depend on."""
    left_context_samples: int
    """Audio before a frame's chunk that its features may depend on, apart from the gain of a levelled input."""
    levelled: bool = False
    """Whether quiet speech is raised to the level of ordinary recordings before it is encoded."""

    def level_input(self, *, levelled: bool) -> None:
        """Sets `levelled` and says so in the id: features of levelled and of other audio don't mix."""
        self.levelled = levelled
        if levelled:
            self.id += "/levelled"

    @abstractmethod
    def chunk_end(self, first_frame: int) -> int:
        """The frame after the last one of the chunk that begins at `first_frame`; its frames are computed together."""

    @abstractmethod
    def encode_chunks(
        self, samples: Samples, start: int, first_frame: int, end_frame: int
    ) -> NDArray[np.float32]:
        """Features of whole chunks.

        Args:
            samples: audio from absolute sample `start` on, at least from `needed_from(first_frame)` to
                `needed_to(end_frame)`.
            start: absolute index of samples[0], ≥ 0.
            first_frame: a chunk's first frame.
            end_frame: a chunk's end.

        Returns:
            float32 [end_frame − first_frame, dim].
        """

    def needed_from(self, first_frame: int) -> int:
        """First absolute sample that frames from `first_frame` on depend on."""
        return max(0, first_frame * SAMPLES_PER_FRAME - self.left_context_samples)

    def needed_to(self, end_frame: int) -> int:
        """The sample after the last one that frames before `end_frame` depend on."""
        return end_frame * SAMPLES_PER_FRAME + self.look_ahead_samples

    def stream(self, state: SpeechStreamState | None = None) -> SpeechStream:
        """A new stream, or one that continues from an exported state.

        Raises:
            ValueError: the state is of an encoder with another kind of input.
        """
        if state is None:
            state = SpeechStreamState(leveller=LevellerState() if self.levelled else None)
        elif (state.leveller is not None) != self.levelled:
            raise ValueError(f"the stream's state belongs to another speech encoder than {self.id}")
        return SpeechStream(self, state)

    def features(self, audio: NDArray[np.generic], num_frames: int | None = None) -> NDArray[np.float32]:
        """Features of a whole recording.

        Args:
            audio: float [S], 16 kHz mono in [−1, 1].
            num_frames: frames to return, ⌈S/640⌉ by default; after the audio's end there is silence.

        Returns:
            float32 [num_frames, dim].

        Raises:
            ValueError: the audio is empty, shorter than 25 ms, not mono or not finite.
        """
        samples = check_samples(audio)
        if len(samples) < SHORTEST_AUDIO:
            raise ValueError(f"audio must have at least {SHORTEST_AUDIO} samples (25 ms), got {len(samples)}")
        frames = frames_of_samples(len(samples)) if num_frames is None else num_frames
        stream = self.stream()
        # In pieces, so that an hour's spectra are never in memory at once.
        piece = 30 * SAMPLE_RATE
        parts = [stream.push(samples[at : at + piece]) for at in range(0, len(samples), piece)]
        parts.append(stream.finish(frames))
        return np.concatenate(parts)[:frames]


@dataclass(kw_only=True)
class SpeechStreamState:
    """The complete state of a stream."""

    samples: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    """Audio that later frames still depend on, from `start` on."""
    start: int = 0
    """Absolute index of samples[0]."""
    next_frame: int = 0
    """First frame whose features have not been returned yet."""
    leveller: LevellerState | None = None
    """The input's leveller; None if the encoder has none."""


class SpeechStream:
    """Features of audio that arrives in pieces of any length."""

    def __init__(self, encoder: SpeechEncoder, state: SpeechStreamState) -> None:
        self.encoder = encoder
        self.state = state
        self.leveller = None if state.leveller is None else Leveller(state.leveller)

    @property
    def received(self) -> int:
        """Samples received so far."""
        pending = 0 if self.state.leveller is None else len(self.state.leveller.pending)
        return self.state.start + len(self.state.samples) + pending

    def push(self, samples: NDArray[np.generic]) -> NDArray[np.float32]:
        """Takes audio of any length, also 0, and returns the features [n, dim] of the frames that are now ready."""
        samples = check_samples(samples)
        if self.leveller is not None:
            samples = self.leveller.push(samples)
        self.state.samples = np.concatenate((self.state.samples, samples))
        ready = self.state.start + len(self.state.samples)
        end = self.state.next_frame
        while self.encoder.needed_to(self.encoder.chunk_end(end)) <= ready:
            end = self.encoder.chunk_end(end)
        return self._encode(end)

    def finish(self, num_frames: int | None = None) -> NDArray[np.float32]:
        """Ends the audio and returns the features of the remaining frames, with silence after the last sample.

        Args:
            num_frames: frames of the whole stream, ⌈S/640⌉ of the S samples received by default; frames that
                `push` has returned already are not returned again.
        """
        frames = frames_of_samples(self.received) if num_frames is None else num_frames
        first = end = self.state.next_frame
        while end < frames:
            end = self.encoder.chunk_end(end)
        if self.leveller is not None:
            self.state.samples = np.concatenate((self.state.samples, self.leveller.finish()))
        silence = max(0, self.encoder.needed_to(end) - self.received)
        self.state.samples = np.concatenate((self.state.samples, np.zeros(silence, np.float32)))
        return self._encode(end)[: max(0, frames - first)]

    def _encode(self, end: int) -> NDArray[np.float32]:
        state = self.state
        if end == state.next_frame:
            return np.zeros((0, self.encoder.dim), np.float32)
        features = self.encoder.encode_chunks(state.samples, state.start, state.next_frame, end)
        state.next_frame = end
        forget = self.encoder.needed_from(end) - state.start
        if forget > 0:
            state.samples = state.samples[forget:].copy()
            state.start += forget
        return features

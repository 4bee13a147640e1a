"""First stage of a stream: audio in pieces of any length to blocks of speech features.

Block 0 has 13 frames, every later one 16. A block is ready when its last frame's look-ahead has arrived; at the end of
speech silence fills the last block, whose surplus frames are cut after decoding.

Shapes: n samples or frames, F speech feature channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portrait.speech import SpeechEncoder, SpeechStream, SpeechStreamState
from portrait.speech.encoder import Samples, check_samples
from portrait.speech.levelling import LevellerState
from portrait.streaming.state import StageFullError, UnknownSessionError, pack, unpack
from portrait.timing import SAMPLES_PER_FRAME, block_frame_range, block_of_frame, frames_of_samples


@dataclass(frozen=True, kw_only=True)
class SpeechRequest:
    """Audio that has arrived for a session."""

    session_id: str
    samples: Samples
    """Float [n], 16 kHz mono in [−1, 1], any n."""
    end: bool = False
    """Whether the speech ends with these samples."""


@dataclass(frozen=True, kw_only=True)
class SpeechBlock:
    """The speech of a block."""

    index: int
    """Number of the block in the stream."""
    features: NDArray[np.float32]
    """[13 or 16, F], per frame."""
    audio: Samples
    """[640 · num_frames], the sound of the frames to show."""
    num_frames: int
    """Frames to show: all of the block, fewer at the end of speech."""


@dataclass(kw_only=True)
class SpeechSession:
    """All that the stage keeps of a session."""

    stream: SpeechStream
    block: int = 0
    """Number of the next block."""
    features: NDArray[np.float32]
    """[n, F], features of the next block's frames that are ready."""
    audio: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    """Sound from the next block's first frame on."""


class SpeechStage:
    """Audio to blocks of speech features, for many sessions."""

    def __init__(self, encoder: SpeechEncoder, *, max_sessions: int = 1024) -> None:
        self.encoder = encoder
        self.max_sessions = max_sessions
        self.sessions: dict[str, SpeechSession] = {}

    def open(self, session_id: str, state: bytes | None = None) -> None:
        """Opens a session: a new one, or one that continues from an exported state.

        Raises:
            ValueError: the session is open already, or the state is not one of this stage.
            StageFullError: the stage has no room for another session.
        """
        if session_id in self.sessions:
            raise ValueError(f"speech stage: session {session_id!r} is open already")
        if len(self.sessions) >= self.max_sessions:
            raise StageFullError(f"speech stage: all {self.max_sessions} sessions are in use")
        empty = np.zeros((0, self.encoder.dim), np.float32)
        session = SpeechSession(stream=self.encoder.stream(), features=empty)
        if state is not None:
            tensors = unpack(state, {"samples", "counters", "features", "audio", "levels", "pending"})
            if tensors["features"].shape[1] != self.encoder.dim:
                raise ValueError(
                    f"session state: expected {self.encoder.dim} speech feature channels, got "
                    f"{tensors['features'].shape[1]}"
                )
            start, next_frame, session.block = tensors["counters"].tolist()
            samples = tensors["samples"].numpy()
            session.stream = self.encoder.stream(
                SpeechStreamState(
                    samples=samples, start=start, next_frame=next_frame, leveller=_leveller(tensors)
                )
            )
            session.features, session.audio = tensors["features"].numpy(), tensors["audio"].numpy()
        self.sessions[session_id] = session

    def step(self, requests: Sequence[SpeechRequest]) -> list[list[SpeechBlock]]:
        """Takes audio and returns, for each request, the blocks that are now ready: often none, sometimes several.

        Raises:
            UnknownSessionError: a session is not open.
            ValueError: samples are not mono, not floating point or not finite; no session has changed then.
        """
        sessions = [self._session(request.session_id) for request in requests]
        samples = [check_samples(request.samples) for request in requests]
        return [
            self._advance(session, audio, end=request.end)
            for session, audio, request in zip(sessions, samples, requests, strict=True)
        ]

    def close(self, session_id: str) -> None:
        """Frees a session; does nothing if it is not open."""
        self.sessions.pop(session_id, None)

    def export(self, session_id: str) -> bytes:
        """A session's state, for `open` on this or another machine."""
        session = self._session(session_id)
        stream = session.stream.state
        levels = stream.leveller
        return pack(
            {
                "samples": torch.from_numpy(stream.samples),
                "counters": torch.tensor([stream.start, stream.next_frame, session.block]),
                "features": torch.from_numpy(session.features),
                "audio": torch.from_numpy(session.audio),
                # Empty without a leveller.
                "levels": torch.from_numpy(np.zeros(0) if levels is None else levels.to_array()),
                "pending": torch.from_numpy(np.zeros(0, np.float32) if levels is None else levels.pending),
            }
        )

    def _session(self, session_id: str) -> SpeechSession:
        if session_id not in self.sessions:
            raise UnknownSessionError("speech stage", session_id)
        return self.sessions[session_id]

    def _advance(self, session: SpeechSession, samples: Samples, *, end: bool) -> list[SpeechBlock]:
        session.audio = np.concatenate((session.audio, samples))
        ready = [session.features, session.stream.push(samples)]
        if end:
            total = frames_of_samples(session.stream.received)
            ready.append(session.stream.finish(self._padded_frames(total)))
        session.features = np.concatenate(ready)
        blocks = []
        while True:
            first, after = block_frame_range(session.block)
            frames = after - first
            shown = min(frames, frames_of_samples(len(session.audio)))
            if len(session.features) < frames or shown == 0:
                return blocks
            sound = np.zeros(shown * SAMPLES_PER_FRAME, np.float32)
            heard = session.audio[: len(sound)]
            sound[: len(heard)] = heard
            features = session.features[:frames]
            blocks.append(SpeechBlock(index=session.block, features=features, audio=sound, num_frames=shown))
            session.features = session.features[frames:]
            session.audio = session.audio[len(sound) :]
            session.block += 1

    def _padded_frames(self, frames: int) -> int:
        """Frames of the stream up to the end of the block that contains its last frame."""
        return block_frame_range(block_of_frame(frames - 1))[1] if frames else 0


def _leveller(tensors: Mapping[str, Tensor]) -> LevellerState | None:
    """The leveller's part of an exported state; None where the encoder had none."""
    levels = tensors["levels"].numpy()
    return LevellerState.from_array(levels, tensors["pending"].numpy()) if levels.size else None

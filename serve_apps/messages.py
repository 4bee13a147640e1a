"""Messages between the ingress and the model deployments.

All are small and can be pickled: samples, speech features, latents, session states and compressed media
(`portrait.media.stream.EncodedBlock`), never raw frames. What travels between a client and the ingress is in
protocol.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the ingress needs to know about the models that the deployments hold."""

    preset: str
    """Name of the preset."""
    size: int
    """Side of the frames in pixels."""
    look_ahead_samples: int
    """Samples after the end of a frame that its speech features depend on."""
    versions: dict[str, str]
    """Versions of the weights by model: vae, generator, speech."""


@dataclass(frozen=True, kw_only=True)
class UploadedImage:
    """An image file as the user uploaded it."""

    name: str
    """The file's name, for error messages."""
    content: bytes
    """The encoded file."""


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """What a session was opened with; each stage reads what it needs, again when the session moves."""

    portrait_id: str
    """The portrait to animate."""
    owner: str
    """Whose portrait it is (`ApiKeys.owner_of`)."""
    seed: int
    """Seed of the noise."""
    audio_guidance: float | None = None
    """λ_a; None means the preset's value."""
    reference_guidance: float | None = None
    """λ_r; None means the preset's value."""


@dataclass(frozen=True, kw_only=True)
class SpokenBlock:
    """Speech features and sound of one block."""

    index: int
    """Number of the block in the stream, from 0."""
    features: np.ndarray
    """float32 [13 or 16, F], one vector per frame."""
    audio: np.ndarray
    """float32 [640 · frames], the sound of the frames to show."""
    frames: int
    """Number of frames to show; less than the block has only at the end of the speech."""


@dataclass(frozen=True, kw_only=True)
class StageReply(Generic[Value]):
    """A stage's output together with the session's state after it."""

    value: Value
    """The output."""
    state: bytes
    """The session's exported state, with which another replica can continue; at most a few hundred kilobytes."""

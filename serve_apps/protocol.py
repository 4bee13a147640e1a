"""Protocol `/v1`: what travels between a client and the ingress, as pydantic messages.

On the WebSocket, text frames are the JSON messages below; binary frames are 16-bit little-endian 16 kHz mono PCM from
the client, cut into messages anywhere, and fragmented MP4 to the client. A `block` event comes just before its media.
Times are in seconds of media, unless the name says milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, TypeAdapter, ValidationError

from serve_apps.errors import ApiError, describe


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Start(_Message):
    """Opens a session; the first message of a stream."""

    type: Literal["start"] = "start"
    portrait_id: str
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of the noise; None draws one, which `started` reports."""
    audio_guidance: float | None = Field(default=None, ge=0, le=20)
    """λ_a; None means the preset's value."""
    reference_guidance: float | None = Field(default=None, ge=0, le=20)
    """λ_r; None means the preset's value."""
    idle: bool = True
    """Whether silence takes the place of late audio; False waits for the audio."""
    api_key: str | None = None
    """For browsers, which cannot set headers on a WebSocket."""


class End(_Message):
    """No more audio will come: the stream ends when all of it is spoken."""

    type: Literal["end"] = "end"


class Clear(_Message):
    """Interrupts: whatever was not sent yet is dropped. Always answered by `cleared`."""

    type: Literal["clear"] = "clear"


class Playhead(_Message):
    """How much the client has played; the stream does not run too far ahead of it."""

    type: Literal["playhead"] = "playhead"
    seconds: NonNegativeFloat


ClientMessage = Annotated[Start | End | Clear | Playhead, Field(discriminator="type")]
_CLIENT_MESSAGE: TypeAdapter[Start | End | Clear | Playhead] = TypeAdapter(ClientMessage)


def parse_client_message(text: str) -> Start | End | Clear | Playhead:
    """A client's JSON message.

    Raises:
        ApiError: invalid JSON, an unknown type or a wrong field.
    """
    try:
        return _CLIENT_MESSAGE.validate_json(text)
    except ValidationError as error:
        raise ApiError("bad_message", describe(error)) from error


class Started(_Message):
    """The session is open."""

    type: Literal["started"] = "started"
    session_id: str
    portrait_id: str
    seed: int
    width: int
    height: int
    fps: int
    media_type: str
    """The type to open a browser's `MediaSource` with."""
    first_block_frames: int
    block_frames: int
    look_ahead_s: float
    """How much audio after a block's end is needed before the block can be made."""
    play_after_s: float
    """How long a player should wait between the first block's media and the start of playback, so as not to run dry."""
    models: dict[str, str]
    """Versions of the weights, by model."""


class BlockEvent(_Message):
    """Announces a block, whose media is the next binary message."""

    type: Literal["block"] = "block"
    index: int
    """Number of the block among those sent, from 0."""
    frames: int
    start_s: float
    """Where the block begins in the media."""
    seconds: float
    silence_s: float
    """Silence that replaced late audio."""
    latency_ms: float
    """From the arrival of the last sample that the block needed until its media was ready."""
    speech_ms: float
    generate_ms: float
    decode_ms: float
    bytes: int


class Cleared(_Message):
    """Confirms `clear`: nothing from before it will be sent."""

    type: Literal["cleared"] = "cleared"
    dropped_s: float
    """Length of the audio that was dropped."""
    media_s: float
    """End of the media that was sent; a player skips to it."""


class Ended(_Message):
    """All speech has been sent; the socket closes after it."""

    type: Literal["ended"] = "ended"
    frames: int
    seconds: float
    blocks: int
    silence_s: float
    dropped_s: float


class ErrorEvent(_Message):
    """The stream failed; the socket closes after this message."""

    type: Literal["error"] = "error"
    code: str
    message: str


class PortraitInfo(_Message):
    """A registered portrait."""

    portrait_id: str
    name: str
    images: int
    size: int
    """Side of the cropped images in pixels."""
    created: str
    """ISO 8601, UTC."""
    consent: str
    """The consent that was given, and when."""


class PortraitList(_Message):
    """The caller's portraits, oldest first."""

    portraits: list[PortraitInfo]


class ServiceInfo(_Message):
    """What the application serves, and how busy it is."""

    preset: str
    width: int
    height: int
    fps: int
    sample_rate: int
    media_type: str
    first_block_frames: int
    block_frames: int
    look_ahead_s: float
    models: dict[str, str]
    sessions: int
    """Open streams of the ingress replica that answers."""
    max_sessions: int
    needs_api_key: bool

"""Protocol `/v1` (design §6): what travels between a client and the ingress, as pydantic messages.

Over the WebSocket, text frames are the JSON messages below; binary frames are 16-bit little-endian 16 kHz mono PCM
from the client and fragmented MP4 to the client. A `block` event comes just before its media. Times are seconds on
the media's clock unless a name says milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, TypeAdapter, ValidationError

CLOSE_NORMAL = 1000
CLOSE_POLICY = 1008
CLOSE_INTERNAL = 1011
CLOSE_TRY_AGAIN = 1013
"""WebSocket close codes (RFC 6455, 7.4)."""


class ApiError(Exception):
    """An error that is told to the client: a stable code, one sentence, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 422) -> None:
        super().__init__(code, message, status)
        self.code = code
        self.message = " ".join(message.split())
        self.status = status

    def __str__(self) -> str:
        return self.message

    @property
    def close_code(self) -> int:
        """The WebSocket close code that says the same."""
        if self.status >= 500:
            return CLOSE_TRY_AGAIN if self.status == 503 else CLOSE_INTERNAL
        return CLOSE_POLICY


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Start(_Message):
    """Opens a session; the first message of a stream."""

    type: Literal["start"] = "start"
    portrait_id: str
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Seed of the noise; None draws one, which `started` tells."""
    audio_guidance: float | None = Field(default=None, ge=0, le=20)
    """λ_a; None takes the preset's."""
    reference_guidance: float | None = Field(default=None, ge=0, le=20)
    """λ_r; None takes the preset's."""
    idle: bool = True
    """Whether silence takes the place of audio that does not come; False waits for the audio."""
    api_key: str | None = None
    """For browsers, which can't set headers on a WebSocket."""


class End(_Message):
    """No more audio: what is left is spoken, then the stream ends."""

    type: Literal["end"] = "end"


class Clear(_Message):
    """Interruption: what was not yet sent is dropped. Always answered by `cleared`."""

    type: Literal["clear", "interrupt"] = "clear"


class Playhead(_Message):
    """What the client has played so far; generation does not run too far ahead of it."""

    type: Literal["playhead"] = "playhead"
    seconds: NonNegativeFloat


ClientMessage = Annotated[Start | End | Clear | Playhead, Field(discriminator="type")]
_CLIENT_MESSAGE: TypeAdapter[Start | End | Clear | Playhead] = TypeAdapter(ClientMessage)


def parse_client_message(text: str) -> Start | End | Clear | Playhead:
    """A client's JSON message.

    Raises:
        ApiError: it is no JSON, of an unknown type, or has a wrong field.
    """
    try:
        return _CLIENT_MESSAGE.validate_json(text)
    except ValidationError as error:
        raise ApiError("bad_message", describe(error)) from error


def describe(error: ValidationError) -> str:
    """A validation error in one line: field, what is wrong."""
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']}" if where else item["msg"])
    return "; ".join(parts)


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
    """What a browser's `MediaSource` is opened with."""
    first_block_frames: int
    block_frames: int
    look_ahead_s: float
    """Audio after a block that must be there before the block can be made."""
    models: dict[str, str]
    """Versions of the weights."""


class BlockEvent(_Message):
    """A block's media follows in the next binary message."""

    type: Literal["block"] = "block"
    index: int
    """Number of the block in what was sent."""
    frames: int
    start_s: float
    """Where the block begins on the media's clock."""
    seconds: float
    silence_s: float
    """Silence that took the place of audio that did not come."""
    latency_ms: float
    """From the last sample that the block needed to the media being ready."""
    speech_ms: float
    generate_ms: float
    decode_ms: float
    bytes: int


class Cleared(_Message):
    """Confirms `clear`: nothing from before it is sent any more."""

    type: Literal["cleared"] = "cleared"
    dropped_s: float
    """Audio that will not be spoken."""
    media_s: float
    """End of what was sent; a player skips to it."""


class Ended(_Message):
    """All that was to be spoken has been sent."""

    type: Literal["ended"] = "ended"
    frames: int
    seconds: float
    blocks: int
    silence_s: float
    dropped_s: float


class ErrorEvent(_Message):
    """Something is wrong; the socket closes after it unless `fatal` is False."""

    type: Literal["error"] = "error"
    code: str
    message: str
    fatal: bool = True


class PortraitInfo(_Message):
    """A registered portrait."""

    portrait_id: str
    name: str
    images: int
    size: int
    """Side of the portrait's pictures in pixels."""
    created: str
    """ISO 8601, UTC."""
    consent: str
    """The consent that came with the pictures, and when."""


class PortraitList(_Message):
    """Portraits of the caller, oldest first."""

    portraits: list[PortraitInfo]


class ServiceInfo(_Message):
    """What this application serves."""

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
    """Open streams of the replica that answers."""
    max_sessions: int
    needs_api_key: bool

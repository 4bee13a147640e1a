"""How much clients may ask for. Each bound protects a replica's memory or prevents useless work."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class Limits(BaseModel):
    """Bounds on what clients may ask of the application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_sessions: PositiveInt = 4
    """Streams that one ingress replica serves at a time; further ones are refused (close code 1013, HTTP 503)."""
    max_buffered_audio_s: PositiveFloat = 60.0
    """Audio of a live stream that may wait to be spoken; clients send at the pace of speech."""
    max_audio_s: PositiveFloat = 600.0
    """Longest audio file of a `POST /v1/videos`."""
    max_audio_bytes: PositiveInt = 64 * 2**20
    """Largest audio file of a `POST /v1/videos`."""
    max_image_bytes: PositiveInt = 16 * 2**20
    """Largest image file of a portrait."""
    # `portrait.streaming.MAX_PICTURES`, which cannot be imported here: the ingress works without torch.
    max_images: PositiveInt = Field(default=3, le=3)
    """Images per portrait, at most what models are trained with."""
    max_message_bytes: PositiveInt = 2**20
    """Largest WebSocket message from a client: 32 s of audio."""
    max_ahead_s: PositiveFloat = 30.0
    """How far a stream may run ahead of the playhead that its client reports."""
    max_blocks_in_flight: PositiveInt = 2
    """Generated blocks of a session that may wait for the decoder."""
    start_timeout_s: PositiveFloat = 10.0
    """How long an opened WebSocket may take to send `start`."""
    stage_timeout_s: PositiveFloat = 60.0
    """How long one call to a stage may take before the session ends with an error."""
    abandoned_after_s: PositiveFloat = 120.0
    """After how long without a call a stage frees a session, because its ingress must be gone."""

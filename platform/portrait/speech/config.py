"""Configuration of the frozen speech encoder that turns 16 kHz audio into one feature vector per video frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Which speech encoder, and what it sees of the audio around a frame."""

    encoder: Literal["log_mel", "wav2vec2"] = "log_mel"
    """`log_mel` needs no weights; `wav2vec2` loads any wav2vec 2.0 / HuBERT-family model."""
    weights: str | None = None
    """Local folder or hub id of the `wav2vec2` encoder; unused by `log_mel`."""
    mel_bins: int = 40
    """Mel bands of the `log_mel` encoder."""
    subframes: int = 4
    """Spectra per video frame of the `log_mel` encoder, spread over the frame's 40 ms and its look-ahead."""
    left_context_ms: int = 2_000
    """Audio before a chunk that the encoder sees (`wav2vec2`; `log_mel` needs one window)."""
    look_ahead_ms: int = 80
    """Audio after a frame's own 40 ms that its features may depend on (0, 80 or 160)."""
    levelled: bool = True
    """Whether quiet speech is raised to the level of ordinary recordings first (`speech.levelling`)."""

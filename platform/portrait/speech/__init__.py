"""Speech: frozen encoders of 16 kHz audio at the frame rate, and the trainable embedder of the generator."""

from __future__ import annotations

from portrait.speech.config import SpeechConfig
from portrait.speech.embedder import SpeechEmbedder
from portrait.speech.encoder import SpeechEncoder, SpeechStream, SpeechStreamState
from portrait.speech.log_mel import LogMelEncoder


def build_speech_encoder(config: SpeechConfig, *, device: str = "cpu") -> SpeechEncoder:
    """The speech encoder of a preset.

    Raises:
        ValueError: `wav2vec2` without weights.
        FileNotFoundError: the weights' folder contains no model.
    """
    if config.encoder == "log_mel":
        return LogMelEncoder(
            mel_bins=config.mel_bins,
            subframes=config.subframes,
            look_ahead_ms=config.look_ahead_ms,
            levelled=config.levelled,
        )
    if config.encoder != "wav2vec2":
        raise ValueError(f"speech.encoder must be log_mel or wav2vec2, got {config.encoder!r}")
    if config.weights is None:
        raise ValueError(
            "speech.weights must name a local folder or a hub id for the wav2vec2 encoder, got None"
        )
    from portrait.speech.wav2vec2 import Wav2Vec2Encoder

    return Wav2Vec2Encoder(
        config.weights,
        left_context_ms=config.left_context_ms,
        look_ahead_ms=config.look_ahead_ms,
        levelled=config.levelled,
        device=device,
    )


__all__ = [
    "LogMelEncoder",
    "SpeechConfig",
    "SpeechEmbedder",
    "SpeechEncoder",
    "SpeechStream",
    "SpeechStreamState",
    "build_speech_encoder",
]

"""Streaming: sessions that advance block by block through three stages, speech, generator and decoder."""

from __future__ import annotations

from portrait.streaming.decoder_stage import DecoderRequest, DecoderStage
from portrait.streaming.generator_stage import GeneratorRequest, GeneratorStage
from portrait.streaming.pipeline import PortraitPipeline, StreamedBlock
from portrait.streaming.portraits import MAX_PICTURES, Portrait, prepare_portrait
from portrait.streaming.speech_stage import SpeechBlock, SpeechRequest, SpeechStage
from portrait.streaming.state import StageFullError, UnknownSessionError

__all__ = [
    "MAX_PICTURES",
    "DecoderRequest",
    "DecoderStage",
    "GeneratorRequest",
    "GeneratorStage",
    "Portrait",
    "PortraitPipeline",
    "SpeechBlock",
    "SpeechRequest",
    "SpeechStage",
    "StageFullError",
    "StreamedBlock",
    "UnknownSessionError",
    "prepare_portrait",
]

"""The three stream stages in one process: a portrait and speech in, video out, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from portrait.generator import Generator, SamplingConfig
from portrait.speech import SpeechEncoder
from portrait.speech.encoder import Samples
from portrait.streaming.decoder_stage import DecoderRequest, DecoderStage
from portrait.streaming.generator_stage import GeneratorRequest, GeneratorStage
from portrait.streaming.portraits import MAX_PICTURES, Portrait
from portrait.streaming.speech_stage import SpeechRequest, SpeechStage
from portrait.timing import SAMPLE_RATE
from portrait.vae import VideoVAE


@dataclass(frozen=True, kw_only=True)
class StreamedBlock:
    """A block, ready to be shown."""

    index: int
    """Number of the block in the stream."""
    frames: NDArray[np.uint8]
    """[n, H, W, 3] RGB, n = 13 for block 0, 16 later, fewer at the end of speech."""
    audio: Samples
    """[640·n], the sound of these frames."""


class PortraitPipeline:
    """Speech, generator and decoder stage, one after the other."""

    def __init__(
        self,
        encoder: SpeechEncoder,
        generator: Generator,
        vae: VideoVAE,
        sampling: SamplingConfig,
        *,
        max_references: int = MAX_PICTURES,
    ) -> None:
        """The stages of a stream.

        Args:
            encoder: of the speech, the one that the generator was trained with.
            generator: the latent generator.
            vae: the VAE whose latents it generates.
            sampling: how the generator samples.
            max_references: most references that a portrait may have.

        Raises:
            ValueError: the speech encoder's features do not fit the generator.
        """
        if encoder.dim != generator.config.speech_dim:
            raise ValueError(
                f"the speech encoder gives {encoder.dim} features per frame, the generator expects "
                f"{generator.config.speech_dim}"
            )
        self.speech = SpeechStage(encoder)
        self.generator = GeneratorStage(generator, sampling, max_references=max_references)
        self.decoder = DecoderStage(vae)
        self._names = (f"pipeline-{number}" for number in count())

    def stream(
        self, portrait: Portrait, audio: Samples | Iterable[Samples], *, seed: int = 0
    ) -> Iterator[StreamedBlock]:
        """Turns speech into video.

        Args:
            portrait: whom to show.
            audio: float [S], 16 kHz mono in [−1, 1], or an iterable of such pieces as they arrive.
            seed: of the noise; the same seed, portrait and audio give the same video.

        Yields:
            Blocks, each as soon as its audio and look-ahead have arrived.

        Raises:
            ValueError: the audio is empty or not finite, or the portrait does not fit the models.
        """
        pieces = _in_seconds(audio) if isinstance(audio, np.ndarray) else audio
        name = next(self._names)
        try:
            self.speech.open(name)
            self.generator.open(name, portrait.reference_latents, seed=seed)
            self.decoder.open(name, portrait.reference_features)
            received = 0
            for piece in pieces:
                received += len(piece)
                yield from self._advance(SpeechRequest(session_id=name, samples=piece))
            if received == 0:
                raise ValueError("the audio is empty: expected at least one sample of speech")
            nothing = np.zeros(0, np.float32)
            yield from self._advance(SpeechRequest(session_id=name, samples=nothing, end=True))
        finally:
            for stage in (self.speech, self.generator, self.decoder):
                stage.close(name)

    def _advance(self, request: SpeechRequest) -> Iterator[StreamedBlock]:
        for speech in self.speech.step([request])[0]:
            ask = GeneratorRequest(session_id=request.session_id, features=speech.features)
            latents = self.generator.step([ask])[0]
            frames = self.decoder.step([DecoderRequest(session_id=request.session_id, latents=latents)])[0]
            yield StreamedBlock(index=speech.index, frames=frames[: speech.num_frames], audio=speech.audio)


def _in_seconds(audio: Samples) -> Iterator[Samples]:
    for start in range(0, len(audio), SAMPLE_RATE):
        yield audio[start : start + SAMPLE_RATE]

"""A frozen wav2vec 2.0 / HuBERT-family encoder (the paper's "pretrained audio encoder"; its name is not published).

The model attends to all of its input, so a stream cannot equal a pass over a whole utterance. Features are therefore
defined chunk by chunk, offline as in a stream: a chunk is a block of the generator (frames 0 … 12, then 16 each); the
model sees it with a fixed left context and look-ahead, and its 50 features a second are interpolated to the frames.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from portrait.speech.encoder import Samples, SpeechEncoder
from portrait.timing import SAMPLE_RATE, SAMPLES_PER_FRAME, block_frame_range, block_of_frame

RECEPTIVE_FIELD = 400
"""Samples that a hidden state sees."""
STRIDE = 320
"""Samples from one hidden state to the next: 50 a second."""


class Wav2Vec2Encoder(SpeechEncoder):
    """Last hidden states of a speech model of the transformers library, resampled to 25 per second."""

    def __init__(
        self,
        weights: str | Path,
        *,
        left_context_ms: int = 2_000,
        look_ahead_ms: int = 80,
        levelled: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        from transformers import AutoModel

        folder = Path(weights)
        if str(weights).startswith((".", "/")) and not (folder / "config.json").is_file():
            raise FileNotFoundError(f"speech.weights: no model (config.json) in {folder}")
        try:
            self.model = AutoModel.from_pretrained(str(weights)).eval().requires_grad_(requires_grad=False)
        except OSError as error:
            raise ValueError(f"speech.weights: {weights!r} could not be loaded: {error}") from error
        self.model.to(device)
        strides = getattr(self.model.config, "conv_stride", None)
        if strides is None or int(np.prod(strides)) != STRIDE:
            raise ValueError(
                f"speech.weights: {weights!r} must be a model of raw 16 kHz audio with 50 features a second (strides "
                f"whose product is {STRIDE}), got strides {strides}"
            )
        self.device = torch.device(device)
        self.dim = int(self.model.config.hidden_size)
        self.look_ahead_samples = look_ahead_ms * SAMPLE_RATE // 1000
        self.left_context_samples = left_context_ms * SAMPLE_RATE // 1000
        self._normalise = _wants_normalised_audio(folder)
        self.id = f"wav2vec2/{_fingerprint(self.model)}/left_context_ms={left_context_ms}/look_ahead_ms={look_ahead_ms}"
        self.level_input(levelled=levelled)

    def chunk_end(self, first_frame: int) -> int:
        """Chunks are the generator's blocks: 13 frames, then 16 each."""
        return block_frame_range(block_of_frame(first_frame))[1]

    def encode_chunks(
        self, samples: Samples, start: int, first_frame: int, end_frame: int
    ) -> NDArray[np.float32]:
        parts = []
        while first_frame < end_frame:
            end = self.chunk_end(first_frame)
            begin = self.needed_from(first_frame)
            parts.append(
                self._encode(samples[begin - start : self.needed_to(end) - start], begin, first_frame, end)
            )
            first_frame = end
        return np.concatenate(parts)

    @torch.inference_mode()
    def _encode(self, samples: Samples, begin: int, first_frame: int, end_frame: int) -> NDArray[np.float32]:
        audio = torch.from_numpy(samples).to(self.device)
        if self._normalise:
            audio = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
        hidden = self.model(audio[None]).last_hidden_state[0].float().cpu().numpy()
        # Hidden state k is centred on sample 320·k + 200 of the window, a frame on its own middle.
        frames = np.arange(first_frame, end_frame) * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2 - begin
        at = np.clip((frames - RECEPTIVE_FIELD / 2) / STRIDE, 0, len(hidden) - 1)
        lower = np.minimum(at.astype(int), len(hidden) - 1)
        upper = np.minimum(lower + 1, len(hidden) - 1)
        share = (at - lower)[:, None]
        return ((1 - share) * hidden[lower] + share * hidden[upper]).astype(np.float32)


def _wants_normalised_audio(folder: Path) -> bool:
    """What the model's feature extractor says; without one, wav2vec 2.0's default, True."""
    file = folder / "preprocessor_config.json"
    return not file.is_file() or bool(json.loads(file.read_text()).get("do_normalize", True))


def _fingerprint(model: torch.nn.Module) -> str:
    """The first 12 hexadecimal digits of a SHA-256 over all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]

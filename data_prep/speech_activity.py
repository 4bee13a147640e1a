"""Share of speech in a sound, by Silero's voice activity detector (weights in its package, MIT licence)."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from portrait.timing import SAMPLE_RATE


def speech_ratio(audio: np.ndarray) -> float:
    """Share of the time in which someone speaks, 0…1.

    Args:
        audio: float32 [S], 16 kHz mono in [−1, 1].
    """
    from silero_vad import get_speech_timestamps

    if not len(audio):
        return 0.0
    with torch.no_grad():
        parts = get_speech_timestamps(torch.from_numpy(audio), _model(), sampling_rate=SAMPLE_RATE)
    return float(sum(part["end"] - part["start"] for part in parts) / len(audio))


@lru_cache(maxsize=1)
def _model() -> Any:
    from silero_vad import load_silero_vad

    with warnings.catch_warnings():
        # The package loads its own TorchScript file; users can do nothing about these warnings.
        warnings.simplefilter("ignore", category=FutureWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        return load_silero_vad()

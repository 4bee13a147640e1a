from pathlib import Path

import numpy as np
import pytest

from data_prep.speech_activity import speech_ratio
from portrait.media.audio import read_audio
from portrait.timing import SAMPLE_RATE


def test_what_is_loud_is_not_yet_speech():
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * SAMPLE_RATE).astype(np.float32)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    for sound in (noise, tone, np.zeros(4 * SAMPLE_RATE, np.float32), np.zeros(0, np.float32)):
        assert speech_ratio(sound) == 0.0


def test_recorded_speech_is_and_the_silence_after_it_is_not(real_material: Path):
    sound = read_audio(sorted((real_material / "speech").glob("1998*.flac"))[0])[: 8 * SAMPLE_RATE]
    alone = speech_ratio(sound)
    assert 0.7 < alone < 1.0
    assert speech_ratio(np.concatenate([sound, np.zeros_like(sound)])) == pytest.approx(alone / 2, abs=0.03)

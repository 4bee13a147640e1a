"""The wav2vec 2.0 encoder with a small model of random weights: chunks offline and in a stream are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from portrait.speech import SpeechConfig, build_speech_encoder
from portrait.speech.wav2vec2 import Wav2Vec2Encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    path = tmp_path_factory.mktemp("speech_model")
    Wav2Vec2Model(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return Wav2Vec2Encoder(folder, left_context_ms=400, look_ahead_ms=80)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_gives_the_same_features_as_the_whole(encoder, seed):
    rng = np.random.default_rng(seed)
    audio = noise(int(rng.integers(12_000, 24_000)), seed)
    stream, parts, at = encoder.stream(), [], 0
    while at < len(audio):
        step = int(rng.integers(1, 9_000))
        parts.append(stream.push(audio[at : at + step]))
        at += step
    parts.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(parts), encoder.features(audio), atol=1e-6)
    assert encoder.features(audio).shape == (-(-len(audio) // 640), 16)


def test_chunks_are_the_generators_blocks(encoder):
    ends, end = [], 0
    for _ in range(4):
        end = encoder.chunk_end(end)
        ends.append(end)
    assert ends == [13, 29, 45, 61]


def test_a_block_hears_no_audio_beyond_its_look_ahead_or_before_its_context(encoder):
    audio = noise(640 * 61)
    before = encoder.features(audio)
    changed = audio.copy()
    changed[640 * 29 + 1_280 :] = 0
    np.testing.assert_array_equal(encoder.features(changed)[:29], before[:29])
    changed = audio.copy()
    changed[: 640 * 29 - 6_400] = 0
    np.testing.assert_array_equal(encoder.features(changed)[29:45], before[29:45])
    assert np.abs(encoder.features(changed)[13:29] - before[13:29]).max() > 1e-3


def test_features_lie_at_their_frames_middle(encoder):
    audio = noise(640 * 13 + 1_280)
    scaled = torch.from_numpy((audio - audio.mean()) / np.sqrt(audio.var() + 1e-7))
    with torch.inference_mode():
        hidden = encoder.model(scaled[None]).last_hidden_state[0].numpy()
    centres = 320 * np.arange(len(hidden)) + 200
    middles = 640 * np.arange(13) + 320
    expected = np.stack([np.interp(middles, centres, channel) for channel in hidden.T], axis=1)
    np.testing.assert_allclose(encoder.features(audio)[:13], expected, atol=1e-5)


def test_built_by_configuration_and_named_by_its_weights(folder, encoder):
    config = SpeechConfig(encoder="wav2vec2", weights=str(folder), left_context_ms=400, levelled=False)
    assert build_speech_encoder(config).id == encoder.id
    assert build_speech_encoder(replace(config, levelled=True)).id == f"{encoder.id}/levelled"
    other = build_speech_encoder(SpeechConfig(encoder="wav2vec2", weights=str(folder), look_ahead_ms=0))
    assert other.id != encoder.id


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        Wav2Vec2Encoder(tmp_path)
    with pytest.raises(ValueError, match="must name a local folder"):
        build_speech_encoder(SpeechConfig(encoder="wav2vec2"))

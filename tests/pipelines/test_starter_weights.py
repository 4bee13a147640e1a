"""What the shipped weights promise (docs/starter_weights.md), with room for other machines' arithmetic."""

import pytest

from pipelines.evaluation import (
    GenerationSubject,
    measure_following,
    reconstruction_metrics,
    synthetic_clips,
)
from portrait import presets
from portrait.storage.checkpoints import load_generator, load_vae, read_header
from portrait.storage.starter_weights import StarterWeights, starter_weights

TINY = presets.load("tiny")


@pytest.fixture(scope="module")
def weights() -> StarterWeights:
    found = starter_weights("tiny")
    assert found is not None, "no starter weights ship with tiny"
    return found


def test_they_are_small_fit_the_preset_and_belong_together(weights):
    assert weights.vae.stat().st_size + weights.generator.stat().st_size <= 20e6
    vae, generator = read_header(weights.vae), read_header(weights.generator)
    assert vae.preset.vae == TINY.vae
    assert generator.preset.generator == TINY.generator
    assert generator.preset.speech == TINY.speech
    assert generator.extra["vae_version"] == vae.latents_version


@pytest.mark.slow
def test_references_help_people_never_trained_on(weights):
    clips = synthetic_clips(4, size=TINY.video.size, seconds=1.0)
    metrics = reconstruction_metrics(load_vae(weights.vae), clips)
    assert metrics["psnr_m1"] > 23.5
    assert metrics["psnr_m1"] > metrics["psnr_m0"] + 2
    assert metrics["psnr_m3"] > metrics["psnr_m1"]
    assert metrics["motion_within_m1"] > 0.3, "a latent's four frames are alike"


@pytest.mark.slow
def test_the_mouth_follows_the_speech_and_not_other_speech(weights):
    subjects = [GenerationSubject.synthetic(number, size=TINY.video.size) for number in range(3)]
    vae, generator = load_vae(weights.vae), load_generator(weights.generator)
    metrics = measure_following(vae, generator, TINY, subjects).metrics
    assert metrics["follow_right"] > 0.75
    assert metrics["follow_right"] > metrics["follow_wrong"] + 0.4
    assert metrics["mouth_range"] > 0.7
    assert metrics["head_range"] > 0.2, "a frozen head"

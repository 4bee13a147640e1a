"""Lip sync and identity of generated videos; most tests put the original video in the place of the generated one."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import talking
from pipelines.reconstruction import HeldOutClips
from portrait.generator import Generator
from portrait.media.audio import encode_flac
from portrait.media.mp4 import encode_video
from portrait.metrics.synchrony import synchrony_of_video
from portrait.metrics.syncnet import SyncNet
from portrait.presets import Preset
from portrait.storage.clips import CLIPS_SCHEMA, commit_clips, write_clips
from portrait.synthetic import render_clip
from portrait.vae import VideoVAE

FRAMES = 29


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> HeldOutClips:
    """A table of two people whose faces are large enough to be detected."""
    uri = str(tmp_path_factory.mktemp("tables") / "clips.lance")
    rows = []
    for number in range(2):
        clip = render_clip(number, FRAMES / 25 + 0.1, size=128)
        row = dict.fromkeys(CLIPS_SCHEMA.names)
        row |= {"clip_id": f"clip{number}", "source": "synthetic", "identity": f"id{number}", "split": "test"}
        row |= {"num_frames": FRAMES, "fps": 25.0, "height": 128, "width": 128}
        row |= {"video": encode_video(clip.frames[:FRAMES]), "audio": encode_flac(clip.audio[: FRAMES * 640])}
        rows.append(row)
    commit_clips(uri, write_clips(uri, rows))
    return HeldOutClips.of(uri, 10)


@pytest.fixture(scope="module")
def judges() -> talking.Judges:
    """A SyncNet with random weights: it measures nothing, but gives the same video the same score."""
    return talking.Judges(syncnet=SyncNet().eval().requires_grad_(False))


def test_clips_come_with_their_own_audio(held_out: HeldOutClips) -> None:
    first, second = talking.spoken_clips(held_out, 128, 2)
    assert (first.clip.clip_id, second.clip.clip_id) == ("clip0", "clip1")
    assert first.clip.frames.shape == (FRAMES, 128, 128, 3)
    truth = render_clip(0, FRAMES / 25 + 0.1, size=128).audio[: FRAMES * 640]
    np.testing.assert_allclose(first.audio, truth, atol=2 / 32768)
    assert len(list(talking.spoken_clips(held_out, 128, 1))) == 1


def test_the_original_video_in_place_of_the_generated_one_has_equal_scores(
    held_out, judges, micro_preset: Preset, monkeypatch
) -> None:
    clips = list(talking.spoken_clips(held_out, 128, 2))
    made = iter([clip.clip.frames for clip in clips])
    monkeypatch.setattr(talking, "generate", lambda *_, **__: next(made))
    vae, generator = VideoVAE(micro_preset.vae), Generator(micro_preset.generator)
    metrics = talking.measure_talking(vae, generator, micro_preset, clips, judges)
    assert metrics["sync_lost"] == 0
    found = [synchrony_of_video(judges.syncnet, clip.clip.frames, clip.audio) for clip in clips]
    for name in ("confidence", "distance"):
        expected = np.mean([getattr(sync, name) for sync in found])
        assert metrics[f"sync_{name}"] == metrics[f"sync_{name}_true"] == pytest.approx(expected)
    assert not any("identity" in name for name in metrics)


def test_a_clip_without_a_generated_face_counts_on_neither_side(
    held_out, judges, micro_preset: Preset, monkeypatch
) -> None:
    """Otherwise a generator that fails on difficult people would score better for it."""
    clips = list(talking.spoken_clips(held_out, 128, 2))
    made = iter([clips[0].clip.frames, np.full((FRAMES, 128, 128, 3), 128, np.uint8)])
    monkeypatch.setattr(talking, "generate", lambda *_, **__: next(made))
    vae, generator = VideoVAE(micro_preset.vae), Generator(micro_preset.generator)
    metrics = talking.measure_talking(vae, generator, micro_preset, clips, judges)
    assert metrics["sync_lost"] == 1
    expected = synchrony_of_video(judges.syncnet, clips[0].clip.frames, clips[0].audio)
    assert expected is not None
    assert metrics["sync_confidence"] == metrics["sync_confidence_true"] == pytest.approx(expected.confidence)


def test_videos_are_generated_by_the_models(held_out, judges, micro_preset: Preset, monkeypatch) -> None:
    """Micro models with random weights; only what they generate is looked at."""
    shapes = []

    def judge(network, frames, audio):
        shapes.append((frames.shape, frames.dtype, len(audio)))
        return synchrony_of_video(network, frames, audio)

    monkeypatch.setattr(talking, "synchrony_of_video", judge)
    size = micro_preset.video.size
    vae, generator = VideoVAE(micro_preset.vae).eval(), Generator(micro_preset.generator).eval()
    talking.measure_talking(vae, generator, micro_preset, talking.spoken_clips(held_out, size, 1), judges)
    assert shapes == [((FRAMES, size, size, 3), np.uint8, FRAMES * 640)] * 2

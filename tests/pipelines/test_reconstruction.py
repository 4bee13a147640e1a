"""Held-out clips, and their reconstruction block by block and with references."""

import shutil

import lance
import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from pipelines import reconstruction
from pipelines.evaluation import reconstruction_metrics
from portrait.media.tensors import frames_to_tensor
from portrait.metrics.perceptual import LPIPS
from portrait.presets import Preset
from portrait.storage.clips import ClipTable
from portrait.vae import VideoVAE


def test_references_are_the_first_last_and_middle_frame(micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    (clip,) = reconstruction.read_clips(table, split="test", size=64, count=5)
    assert clip.frames.shape == (29, 64, 64, 3)
    for reference, frame in zip(clip.references, (0, 28, 14), strict=True):
        assert np.array_equal(reference, clip.frames[frame])


def test_an_excerpt_contains_none_of_the_references(micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    (whole,) = reconstruction.read_clips(table, split="test", size=64, count=1)
    (window,) = reconstruction.read_clips(table, split="test", size=64, count=1, num_frames=9)
    start = next(i for i, frame in enumerate(whole.frames) if np.array_equal(frame, window.frames[0]))
    assert not {0, 14, 28} & set(range(start, start + 9))


def test_clips_are_spread_over_identities_and_always_the_same(micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    ids = [clip.clip_id for clip in reconstruction.read_clips(table, split="train", size=64, count=2)]
    assert ids == ["clip0", "clip1"]


def test_held_out_clips_can_be_limited_to_one_source(tmp_path, micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    everyone = reconstruction.HeldOutClips.of(micro_clips, 1000)
    assert everyone.name == f"{micro_clips} version {table.version}: {everyone.count} clips of split test"
    assert len(list(everyone.clips(64))) == everyone.count
    uri = str(tmp_path / "mixed.lance")
    shutil.copytree(micro_clips, uri)
    lance.dataset(uri).update({"source": "'vox'"}, where="clip_id in ('clip0', 'clip1')")
    of_vox = reconstruction.HeldOutClips.of(uri, 1, "vox")
    assert (of_vox.split, of_vox.count) == ("train", 1)
    assert "1 clips of vox of split train" in of_vox.name
    assert [clip.clip_id for clip in of_vox.clips(64)] == ["clip0"]
    with pytest.raises(ValueError, match=r"no clips of source 'hdtf'; sources in the table: .*vox"):
        reconstruction.HeldOutClips.of(uri, 1, "hdtf")


def test_block_by_block_equals_the_whole_clip(micro_preset: Preset) -> None:
    vae = VideoVAE(micro_preset.vae).eval()
    video = torch.rand(1, 3, 29, 64, 64) * 2 - 1
    with torch.no_grad():
        whole = vae.encode(video)
        features = vae.encode_references(video[:, :, :2].transpose(1, 2))
        decoded = vae.decode(whole.mean, reference_features=features)
    posterior = reconstruction.encode_in_blocks(vae, video)
    torch.testing.assert_close(posterior.mean, whole.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(posterior.log_variance, whole.log_variance, rtol=0, atol=1e-5)
    streamed = reconstruction.decode_in_blocks(vae, whole.mean, features)
    torch.testing.assert_close(streamed, decoded, rtol=0, atol=1e-5)


def test_lpips_is_measured_if_it_has_weights(tmp_path, micro_clips: str, micro_preset: Preset) -> None:
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), tmp_path / "alexnet-random.pth")
    lpips, vae = LPIPS(tmp_path), VideoVAE(micro_preset.vae).eval()
    clips = list(reconstruction.HeldOutClips.of(micro_clips, 1).clips(64))
    metrics = reconstruction_metrics(vae, clips, (0, 1), lpips)
    for count, video in reconstruction.reconstruct(vae, clips[0], (0, 1)).items():
        expected = lpips(video[None], frames_to_tensor(clips[0].frames)[None])
        assert metrics[f"lpips_m{count}"] == pytest.approx(float(expected))
    assert not any("lpips" in name for name in reconstruction_metrics(vae, clips, (0,), LPIPS(None)))

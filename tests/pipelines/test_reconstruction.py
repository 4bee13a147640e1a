import numpy as np
import torch

from pipelines import reconstruction
from portrait.presets import Preset
from portrait.storage.clips import ClipTable
from portrait.vae import VideoVAE


def test_references_are_the_first_last_and_middle_frame(micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    (clip,) = reconstruction.read_clips(table, split="test", size=64, count=5)
    assert clip.frames.shape == (29, 64, 64, 3)
    for reference, frame in zip(clip.references, (0, 28, 14), strict=True):
        assert np.array_equal(reference, clip.frames[frame])


def test_a_window_holds_none_of_the_references(micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    (whole,) = reconstruction.read_clips(table, split="test", size=64, count=1)
    (window,) = reconstruction.read_clips(table, split="test", size=64, count=1, num_frames=9)
    start = next(i for i, frame in enumerate(whole.frames) if np.array_equal(frame, window.frames[0]))
    assert not {0, 14, 28} & set(range(start, start + 9))


def test_clips_are_spread_over_identities_and_always_the_same(micro_clips: str) -> None:
    table = ClipTable.open(micro_clips)
    ids = [clip.clip_id for clip in reconstruction.read_clips(table, split="train", size=64, count=2)]
    assert ids == ["clip0", "clip1"]


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

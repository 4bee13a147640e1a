from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.latent_encoding import EncodeClips, EncoderSettings, encode_latents
from portrait.media.audio import decode_flac
from portrait.media.random_access import decode_window
from portrait.media.tensors import frames_to_tensor
from portrait.presets import Preset
from portrait.speech import build_speech_encoder
from portrait.storage import checkpoints
from portrait.storage.clips import ClipTable
from portrait.storage.latents import LatentTable
from portrait.vae import VideoVAE


@pytest.fixture
def vae_file(tmp_path: Path, micro_preset: Preset) -> str:
    path = tmp_path / "vae.safetensors"
    checkpoints.save_model(path, VideoVAE(micro_preset.vae), kind="vae", preset=micro_preset)
    return str(path)


def test_a_row_holds_what_the_models_say_of_the_clip(
    micro_clips: str, micro_preset: Preset, vae_file: str
) -> None:
    settings = EncoderSettings(
        clips=micro_clips, clips_version=1, vae_file=vae_file, preset=micro_preset, device="cpu", threads=1
    )
    row = EncodeClips(settings).encode(1)

    vae = checkpoints.load_vae(vae_file)
    video, audio = ClipTable.open(micro_clips).read_media([1])[0]
    frames = frames_to_tensor(decode_window(video, range(29)))
    with torch.no_grad():
        whole = vae.encode(frames[None])
        picture = vae.encode(frames[None, :, row.reference_frames[2]].unsqueeze(2))
    torch.testing.assert_close(row.mean, whole.mean[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(row.variance, whole.log_variance[0].exp(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(row.reference_latents[2], picture.mean[0, :, 0], rtol=0, atol=1e-5)
    assert row.reference_frames[0] == 0
    assert row.reference_frames[-1] == 28
    speech = build_speech_encoder(micro_preset.speech).features(decode_flac(audio), 29)
    assert torch.equal(row.speech, torch.from_numpy(speech))
    assert row.vae_version == checkpoints.read_header(vae_file).version


@pytest.mark.usefixtures("ray_session")
def test_a_table_is_encoded_once_and_not_mixed_with_another_vae(
    micro_clips: str, micro_preset: Preset, vae_file: str, tmp_path: Path
) -> None:
    latents = str(tmp_path / "latents.lance")
    report = encode_latents(micro_clips, vae_file, latents)
    assert (report.encoded, report.skipped, report.failed) == (4, 0, {})
    assert report.table.clip_ids() == {f"clip{number}" for number in range(4)}
    again = encode_latents(micro_clips, vae_file, latents)
    assert (again.encoded, again.skipped, again.table.num_rows) == (0, 4, 4)

    other = tmp_path / "other.safetensors"
    checkpoints.save_model(other, VideoVAE(micro_preset.vae), kind="vae", preset=micro_preset)
    with pytest.raises(ValueError, match="write to another table"):
        encode_latents(micro_clips, str(other), latents)


def test_features_of_levelled_speech_are_not_mixed_with_others(
    micro_clips: str, micro_preset: Preset, vae_file: str, tmp_path: Path
) -> None:
    unlevelled = replace(micro_preset, speech=replace(micro_preset.speech, levelled=False))
    settings = EncoderSettings(
        clips=micro_clips, clips_version=1, vae_file=vae_file, preset=unlevelled, device="cpu", threads=1
    )
    latents = str(tmp_path / "latents.lance")
    LatentTable.append(latents, [EncodeClips(settings).encode(0)])
    with pytest.raises(ValueError, match=r"speech\.levelled is True .*write to another table"):
        encode_latents(micro_clips, vae_file, latents)


def test_a_damaged_clip_is_reported_and_costs_no_other(
    micro_clips: str, micro_preset: Preset, vae_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EncoderSettings(
        clips=micro_clips, clips_version=1, vae_file=vae_file, preset=micro_preset, device="cpu", threads=1
    )
    actor = EncodeClips(settings)
    good = actor.encode

    def sometimes(index: int) -> object:
        if index == 1:
            raise ValueError("broken\nvideo")
        return good(index)

    monkeypatch.setattr(actor, "encode", sometimes)
    found = actor({"item": [0, 1]})  # type: ignore[dict-item]
    assert found["clip_id"] == ["clip0", "clip1"]
    assert found["error"] == ["", "broken video"]
    assert found["row"][0]
    assert not found["row"][1]

import dataclasses

import lance
import pytest
import torch

from portrait.storage.epoch_sampler import Draw
from portrait.storage.latent_windows import LatentWindows
from portrait.storage.latents import LatentRow, LatentTable
from portrait.storage.mixture import SourceMix

CHANNELS = 5


def make_row(clip_id, latents, variance=0.0):
    """Latent j holds the value j in channel 0, frame i's features hold the value i: positions can be read off."""
    frames = 1 + 4 * (latents - 1)
    mean = torch.randn(CHANNELS, latents, 2, 2)
    mean[0] = torch.arange(latents).view(-1, 1, 1).float()
    reference_frames = (0, 40, 120, frames - 1)
    references = torch.randn(4, CHANNELS, 2, 2)
    references[:, 0] = torch.tensor(reference_frames).view(-1, 1, 1) / 4
    return LatentRow(
        clip_id=clip_id,
        identity=clip_id,
        split="train",
        vae_version="v",
        num_frames=frames,
        mean=mean,
        variance=torch.full_like(mean, variance),
        reference_latents=references,
        reference_frames=reference_frames,
        speech=torch.arange(frames).float()[:, None].expand(-1, 3) + 1,
        speech_encoder="e",
        look_ahead_samples=0,
    )


@pytest.fixture
def uri(tmp_path):
    uri = str(tmp_path / "latents.lance")
    LatentTable.append(uri, [make_row("long", 63), make_row("short", 10, variance=4.0)])
    return uri


def test_latents_and_speech_lie_on_one_time_grid(uri):
    windows = LatentWindows(uri, window=32)
    starts = set()
    for epoch in range(60):
        item = windows[Draw(epoch, 0)]
        start = item["start"]
        starts.add(start)
        there = int(item["latent_mask"].sum())
        assert start % 4 == 0
        assert item["is_first"] == (start == 0)
        assert there == min(32, 63 - start)
        latents = item["latents"]
        assert latents[0, :there, 0, 0].tolist() == pytest.approx(range(start, start + there), abs=0.05)
        for j in range(there):
            latent = start + j
            frames = [0] if latent == 0 else range(4 * latent - 3, 4 * latent + 1)
            rows = item["speech"][4 * j : 4 * j + 4, 0]
            # Features are numbered from 1, so that 0 means padding.
            assert rows[-len(frames) :].tolist() == [frame + 1 for frame in frames]
            assert (rows[: 4 - len(frames)] == 0).all()
    assert starts == {0, 4, 8, 12, 16, 20, 24, 28, 32}


def test_a_short_clip_is_padded_with_zeros_and_masked(uri):
    item = LatentWindows(uri, window=32)[Draw(0, 1)]
    assert item["clip_id"] == "short"
    assert item["latents"].shape == (CHANNELS, 32, 2, 2)
    assert item["speech"].shape == (128, 3)
    assert item["latent_mask"].tolist() == [True] * 10 + [False] * 22
    assert (item["latents"][:, 10:] == 0).all()
    assert (item["speech"][40:] == 0).all()
    assert item["is_first"]


def test_references_outside_the_window_come_first(uri):
    windows = LatentWindows(uri, window=8)
    frames_seen = set()
    for epoch in range(40):
        item = windows[Draw(epoch, 0)]
        values = item["reference_latents"][:, 0, 0, 0] * 4
        frames = [round(float(value)) for value in values]
        assert len(set(frames)) == 3
        first, last = 4 * item["start"] - 3, 4 * (item["start"] + 7)
        inside = [frame for frame in (0, 40, 120, 248) if first <= frame <= last]
        assert len(set(frames) & set(inside)) == max(0, len(inside) - 1)
        frames_seen |= set(frames)
    assert frames_seen == {0, 40, 120, 248}


def test_posterior_samples_have_its_variance(uri):
    row = 1
    mean = LatentWindows(uri, window=12, sample_posterior=False)[Draw(0, row)]["latents"][:, :10]
    windows = LatentWindows(uri, window=12)
    noise = [windows[Draw(epoch, row)]["latents"][:, :10] - mean for epoch in range(100)]
    assert torch.stack(noise).std().item() == pytest.approx(2.0, rel=0.05)
    assert torch.stack(noise).mean().item() == pytest.approx(0.0, abs=0.06)


def test_an_item_is_a_function_of_seed_epoch_and_row(uri):
    once, again = LatentWindows(uri, seed=4), LatentWindows(uri, seed=4)
    draws = [Draw(3, 1), Draw(3, 0), Draw(4, 1)]
    together = once.__getitems__(draws)
    for draw, item in zip(draws, together, strict=True):
        alone = again[draw]
        assert item["start"] == alone["start"]
        for name in ("latents", "reference_latents", "speech"):
            assert torch.equal(item[name], alone[name]), name
    assert not torch.equal(together[0]["latents"], together[2]["latents"])


def test_wrong_windows_and_splits_are_refused(uri):
    with pytest.raises(ValueError, match="window must be a positive multiple of 4, got 30"):
        LatentWindows(uri, window=30)
    with pytest.raises(ValueError, match=r"no clip of split val \(2 clips in the table\)"):
        LatentWindows(uri, split="val")


def test_sources_are_mixed_and_tables_from_before_sources_grow(tmp_path):
    uri = str(tmp_path / "latents.lance")
    LatentTable.append(uri, [make_row("old", 10)])
    lance.dataset(uri).drop_columns(["source"])
    assert LatentWindows(uri).weights is None
    LatentTable.append(uri, [dataclasses.replace(make_row("new", 10), source="studio")])
    windows = LatentWindows(uri, mix=SourceMix(weights={"studio": 2.0}))
    assert (windows.clip_ids, windows.weights) == (["old", "new"], [1.0, 2.0])
    assert LatentWindows(uri, mix=SourceMix(weights={"studio": 0.0})).clip_ids == ["old"]
    assert [row.source for row in windows.table.read([0, 1])] == [None, "studio"]

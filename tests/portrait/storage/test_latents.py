from dataclasses import replace

import pytest
import torch

from portrait.storage.latents import LatentRow, LatentTable


def make_row(clip_id="a", latents=9, split="train", **changes):
    frames = 1 + 4 * (latents - 1)
    row = LatentRow(
        clip_id=clip_id,
        identity="someone",
        split=split,
        vae_version="v1",
        num_frames=frames,
        mean=3 * torch.randn(6, latents, 2, 2) + torch.arange(6.0).view(6, 1, 1, 1),
        variance=torch.rand(6, latents, 2, 2),
        reference_latents=torch.randn(4, 6, 2, 2),
        reference_frames=(0, 5, 10, frames - 1),
        speech=torch.randn(frames, 10),
        speech_encoder="log-mel",
        look_ahead_samples=1280,
    )
    return replace(row, **changes)


def test_rows_come_back_within_half_precision(tmp_path):
    rows = [make_row("a"), make_row("b", latents=3)]
    table = LatentTable.append(str(tmp_path / "latents.lance"), rows)
    for index, expected in enumerate(rows):
        (read,) = table.read([index])
        for name in ("mean", "variance", "reference_latents", "speech"):
            assert torch.equal(getattr(read, name), getattr(expected, name).half().float()), name
        plain = ("clip_id", "identity", "split", "vae_version", "num_frames", "reference_frames")
        for name in (*plain, "speech_encoder", "look_ahead_samples"):
            assert getattr(read, name) == getattr(expected, name), name


def test_statistics_are_those_of_the_training_rows_together(tmp_path):
    uri = str(tmp_path / "latents.lance")
    rows = [make_row("a", latents=9), make_row("b", latents=3), make_row("c", latents=5)]
    LatentTable.append(uri, rows[:1])
    table = LatentTable.append(
        uri, [*rows[1:], make_row("v", split="val", mean=torch.full((6, 9, 2, 2), 50.0))]
    )
    together = torch.cat([row.mean.flatten(2) for row in rows], dim=1).flatten(1)
    assert torch.allclose(table.statistics.mean, together.mean(dim=1), atol=1e-5)
    assert torch.allclose(table.statistics.std, together.std(dim=1, correction=0), atol=1e-5)


def test_a_clip_is_written_once(tmp_path):
    uri = str(tmp_path / "latents.lance")
    LatentTable.append(uri, [make_row("a"), make_row("a")])
    table = LatentTable.append(uri, [make_row("a"), make_row("b")])
    assert [row["clip_id"] for row in table.rows()] == ["a", "b"]
    assert LatentTable.append(uri, []).num_rows == 2


def test_latents_of_another_vae_or_encoder_are_refused_and_nothing_is_written(tmp_path):
    uri = str(tmp_path / "latents.lance")
    LatentTable.append(uri, [make_row("a")])
    for change in ({"vae_version": "v2"}, {"speech_encoder": "other"}, {"look_ahead_samples": 0}):
        with pytest.raises(ValueError, match=r"clip c with .* write to another table"):
            LatentTable.append(uri, [make_row("b"), replace(make_row("c"), **change)])
    assert LatentTable.open(uri).clip_ids() == {"a"}


def test_no_rows_make_no_table(tmp_path):
    uri = str(tmp_path / "latents.lance")
    with pytest.raises(ValueError, match="no latents to write"):
        LatentTable.append(uri, [])
    with pytest.raises(FileNotFoundError, match="no latents table at"):
        LatentTable.open(uri)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 34}, "must be"),
        ({"speech": torch.zeros(32, 10)}, r"speech of clip a must be \[33, 10\], got \[32, 10\]"),
        ({"variance": torch.zeros(6, 8, 2, 2)}, "variance of clip a must be"),
        (
            {"mean": torch.full((6, 9, 2, 2), 1e6)},
            "mean of clip a holds values that are not finite as float16",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_row("a", **change)


def test_statistics_need_a_training_row(tmp_path):
    table = LatentTable.append(str(tmp_path / "latents.lance"), [make_row("a", split="val")])
    with pytest.raises(ValueError, match="no training row"):
        _ = table.statistics

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.task import DataShard
from pipelines.vae_task import VAETask, number_of_references
from portrait.presets import Preset
from portrait.storage import checkpoints


@pytest.fixture
def task(micro_clips: str, micro_preset: Preset) -> VAETask:
    return VAETask(
        preset=micro_preset, clips=micro_clips, clips_version=1, training=micro_preset.vae_training
    )


def test_every_number_of_references_comes_up_about_equally() -> None:
    counts = np.bincount([number_of_references(3, step, 3) for step in range(2000)], minlength=4)
    assert counts.sum() == 2000
    assert (np.abs(counts - 500) < 100).all()
    assert number_of_references(3, 5, 3) == number_of_references(3, 5, 3)


def test_loss_is_of_frames_of_their_changes_and_the_kl_per_latent_value(task: VAETask) -> None:
    weights = {"l1_weight": 2.0, "l2_weight": 5.0, "motion_weight": 30.0, "kl_weight": 0.5}
    training = dataclasses.replace(task.training, **weights, mirror=0.0, colour_jitter=0.0)
    task = dataclasses.replace(task, training=training)
    model = task.build()
    batch = next(task.batches(0, DataShard(rank=0, world_size=1, seed=0)))
    rng = torch.Generator().manual_seed(1)
    loss, metrics = task.loss(model, batch, seed=0, step=0, rng=rng)

    video, references = (batch[name].float() / 127.5 - 1 for name in ("video", "references"))
    count = number_of_references(0, 0, 3)
    posterior = model.encode(video)
    z = posterior.sample(torch.Generator().manual_seed(1))
    decoded = model.decode(z, references[:, :count] if count else None)
    mean, log_variance = posterior.mean, posterior.log_variance
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    l1, mse = torch.nn.functional.l1_loss, torch.nn.functional.mse_loss
    changes = mse(decoded[:, :, 1:] - decoded[:, :, :-1], video[:, :, 1:] - video[:, :, :-1])
    expected = 2.0 * l1(decoded, video) + 5.0 * mse(decoded, video) + 30.0 * changes + 0.5 * kl
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    assert metrics[f"l1_m{count}"].item() == pytest.approx((decoded - video).abs().mean().item(), rel=1e-4)


def test_data_goes_on_where_it_was_interrupted(task: VAETask) -> None:
    whole = task.batches(0, DataShard(rank=0, world_size=2, seed=5))
    first = [next(whole) for _ in range(4)]
    rest = next(task.batches(0, DataShard(rank=0, world_size=2, seed=5, start_step=3)))
    assert torch.equal(first[3]["video"], rest["video"])
    assert first[3]["clip_id"] == rest["clip_id"]


def test_without_backbone_weights_lpips_has_no_weight(task: VAETask) -> None:
    assert task.training.lpips_weight > 0
    assert task.lpips_weight == 0
    evaluation = task.evaluate(task.build().eval(), 0)
    assert evaluation.remarks["lpips"].startswith("not measured")
    assert "lpips" not in evaluation.metrics


def test_a_frozen_encoder_stays_and_the_decoder_learns(task: VAETask) -> None:
    training = dataclasses.replace(task.training, freeze_encoder=True, reference_jitter=1.0)
    task = dataclasses.replace(task, training=training)
    model = task.build()
    batch = next(task.batches(0, DataShard(rank=0, world_size=1, seed=0)))
    step = next(step for step in range(20) if number_of_references(0, step, 3))
    loss, _ = task.loss(model, batch, seed=0, step=step, rng=torch.Generator().manual_seed(1))
    loss.backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.decoder.d2.parameters())


def test_the_pull_to_the_same_place_is_set_before_training(task: VAETask) -> None:
    training = dataclasses.replace(task.training, same_place=1.5)
    for layer in dataclasses.replace(task, training=training).build().decoder.d_ref.layers:
        assert (layer.cross_attention.place_q == 1.5).all()
        assert (layer.cross_attention.place_k == 1.5).all()
        assert (layer.self_attention.place_q == 0).all()


@pytest.mark.parametrize("wrong", [{"reference_jitter": 1.5}, {"same_place": -1.0}])
def test_training_options_out_of_range_are_named(task: VAETask, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(task.training, **wrong)


def test_a_vae_with_a_frozen_encoder_keeps_the_version_of_its_latents(task: VAETask, tmp_path: Path) -> None:
    first, second, third = (
        tmp_path / name for name in ("first.safetensors", "second.safetensors", "third.safetensors")
    )
    model = task.build()
    task.export(model, first, extra={})
    training = dataclasses.replace(task.training, freeze_encoder=True)
    frozen = dataclasses.replace(task, training=training, init=str(first))
    frozen.export(model, second, extra={"step": 1})
    dataclasses.replace(frozen, init=str(second)).export(model, third, extra={"step": 2})
    dataclasses.replace(task, init=str(third)).export(
        model, tmp_path / "whole.safetensors", extra={"step": 3}
    )
    headers = [
        checkpoints.read_header(path) for path in (first, second, third, tmp_path / "whole.safetensors")
    ]
    assert len({header.version for header in headers}) == 4
    assert {header.latents_version for header in headers[:3]} == {headers[0].version}
    assert headers[3].latents_version == headers[3].version

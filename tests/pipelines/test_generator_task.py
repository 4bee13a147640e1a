import dataclasses

import numpy as np
import pytest
import torch

from pipelines import evaluation
from pipelines.distillation_task import DistillationTask
from pipelines.generator_task import GeneratorTask, draw_self_rollout
from pipelines.task import DataShard
from pipelines.trainer import fit
from pipelines.training_settings import TrainingSettings
from portrait import presets
from portrait.generator.distillation import check_steps
from portrait.presets import Preset
from portrait.storage import checkpoints
from portrait.vae import VideoVAE


@pytest.fixture
def task(micro_latents: str, micro_preset: Preset) -> GeneratorTask:
    return GeneratorTask(
        preset=micro_preset,
        latents=micro_latents,
        latents_version=1,
        training=micro_preset.generator_training,
        evaluation_windows=2,
    )


def test_a_new_generator_takes_the_tables_moments_and_batches_hold_latents_of_the_vae(
    task: GeneratorTask,
) -> None:
    generator = task.build()
    assert generator.normaliser.mean.mean().item() == pytest.approx(2.0, abs=0.3)
    assert generator.normaliser.std.mean().item() == pytest.approx(3.0, abs=0.4)
    batch = next(task.batches(0, DataShard(rank=0, world_size=1, seed=0)))
    there = batch["latent_mask"][:, None, None, None].expand(-1, 64, 1, 1, -1)
    for latents, mean, std in (
        (batch["latents"], 2.0, 3.0),
        (generator.normalise(batch["latents"]), 0.0, 1.0),
    ):
        seen = latents.movedim(2, -1)[there]
        assert seen.mean().item() == pytest.approx(mean, abs=0.15 * std)
        assert seen.std().item() == pytest.approx(std, abs=0.15 * std)


def test_training_exports_what_it_was_made_of(task: GeneratorTask, output: str) -> None:
    result = fit(task, TrainingSettings(output=output, workers=0))
    generator = checkpoints.load_generator(result.weights, preset=task.preset)
    extra = checkpoints.read_header(result.weights).extra
    assert (extra["vae_version"], extra["speech_encoder"], extra["step"]) == ("abc", "test", 4)
    torch.testing.assert_close(generator.normaliser.mean, task.table.statistics.mean)
    assert result.run.history("eval/flow_loss")[-1][0] == 4

    # Initial weights bring their moments along: a few clips of one person have quite other ones.
    generator.normaliser.mean += 1
    started = output + "/moved.safetensors"
    checkpoints.save_model(started, generator, kind="generator", preset=task.preset)
    further = dataclasses.replace(task, init=started)
    torch.testing.assert_close(further.build().normaliser.mean, generator.normaliser.mean)


def test_products_in_bfloat16_train_float32_weights_to_nearly_the_same(
    task: GeneratorTask, output: str
) -> None:
    weights = []
    for autocast in (False, True):
        settings = TrainingSettings(output=f"{output}{autocast}", workers=0, autocast=autocast)
        exported = checkpoints.load_generator(fit(task, settings).weights, preset=task.preset)
        weights.append(torch.cat([parameter.flatten() for parameter in exported.parameters()]))
    assert weights[1].dtype == torch.float32
    assert not torch.equal(*weights), "products were rounded"
    torch.manual_seed(0)
    started = torch.cat([parameter.flatten() for parameter in task.build().parameters()])
    assert torch.dist(*weights) < 0.3 * torch.dist(weights[0], started)


def test_with_a_vae_an_evaluation_shows_a_generated_clip(
    task: GeneratorTask, tmp_path: str, micro_preset: Preset
) -> None:
    vae = f"{tmp_path}/vae.safetensors"
    checkpoints.save_model(vae, VideoVAE(micro_preset.vae), kind="vae", preset=micro_preset)
    found = dataclasses.replace(task, vae=vae).evaluate(task.build().eval(), 0)
    assert {"flow_loss", "follow_right", "follow_wrong", "follow_ceiling"} < set(found.metrics)
    assert found.pictures["generated"].ndim == 3


def test_ranges_are_those_of_the_true_video_where_it_is_what_is_generated(
    task: GeneratorTask, micro_preset: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = evaluation.GenerationSubject.synthetic(0, size=64, seconds=1.0)
    vae, generator = VideoVAE(micro_preset.vae).eval(), task.build().eval()

    def measured(frames: np.ndarray) -> dict[str, float]:
        monkeypatch.setattr(evaluation, "generate", lambda *_, **__: frames)
        return evaluation.measure_following(vae, generator, micro_preset, [subject]).metrics

    true = measured(subject.frames)
    assert true["mouth_range"] == pytest.approx(1)
    assert true["head_range"] == pytest.approx(1)
    frozen = measured(np.repeat(subject.frames[:1], len(subject.frames), axis=0))
    assert frozen["mouth_range"] == pytest.approx(0, abs=1e-4)
    assert frozen["head_range"] == pytest.approx(0, abs=1e-3)


def test_rollouts_come_at_their_share_with_timesteps_within_their_bound():
    preset = presets.load("tiny")
    training = dataclasses.replace(preset.generator_training, rollout_share=0.3, rollout_timestep_max=0.8)
    drawn = [draw_self_rollout(training, preset.sampling, 5, step) for step in range(2_000)]
    timesteps = [rollout.timestep for rollout in drawn if rollout is not None]
    assert len(timesteps) / 2_000 == pytest.approx(0.3, abs=0.05)
    assert 0 < min(timesteps) < 0.05
    assert 0.75 < max(timesteps) <= 0.8
    assert drawn[0] == draw_self_rollout(training, preset.sampling, 5, 0)
    assert draw_self_rollout(preset.generator_training, preset.sampling, 5, 0) is None


def test_a_student_carries_its_few_steps_with_it(task: GeneratorTask, tmp_path: str, output: str) -> None:
    with pytest.raises(ValueError, match="divide"):
        check_steps(task.preset.sampling, 3)
    teacher = f"{tmp_path}/teacher.safetensors"
    checkpoints.save_model(teacher, task.build(), kind="generator", preset=task.preset)
    student = DistillationTask.of(dataclasses.replace(task, init=teacher), 1)
    result = fit(student, TrainingSettings(output=output, workers=0))
    assert result.weights.name == "student.safetensors"
    header = checkpoints.read_header(result.weights)
    assert (header.kind, header.preset.generator) == ("generator", task.preset.generator)
    sampling = header.preset.sampling
    assert (sampling.steps, sampling.audio_guidance, sampling.reference_guidance) == (1, 1.0, 1.0)
    assert "eval/distillation_loss" in result.run.metrics()
    assert checkpoints.load_generator(result.weights, preset=task.preset)

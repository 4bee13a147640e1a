from pathlib import Path

import pytest

from jobs import command_line, distill_generator, train_generator, train_vae
from jobs.train_vae import TrainVAE, selected_training
from pipelines.task_options import check_weights
from portrait import presets
from portrait.storage import checkpoints
from portrait.storage.starter_weights import starter_weights
from portrait.vae import VideoVAE

STARTER = starter_weights("tiny")
assert STARTER is not None


def test_steps_are_shared_among_the_stages_as_the_preset_shares_them() -> None:
    training = presets.load("tiny").vae_training
    changed = selected_training(TrainVAE.of_preset("tiny", steps=100, batch_size=3, stages=(0, 1)))
    before = [stage.steps for stage in training.stages]
    after = [stage.steps for stage in changed.stages]
    assert after == [round(100 * steps / sum(before)) for steps in before]
    assert {stage.batch_size for stage in changed.stages} == {3}
    assert selected_training(TrainVAE.of_preset("tiny")) == training


def test_a_stage_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="stages 0 … 1, got 7"):
        selected_training(TrainVAE.of_preset("tiny", stages=(7,)))


def test_weights_of_another_preset_or_kind_are_refused(tmp_path: Path) -> None:
    tiny, small = presets.load("tiny"), presets.load("small")
    path = tmp_path / "vae.safetensors"
    checkpoints.save_model(path, VideoVAE(tiny.vae), kind="vae", preset=tiny)
    check_weights(path, "vae", tiny)
    with pytest.raises(ValueError, match="of preset 'tiny' and does not fit preset 'small'"):
        check_weights(path, "vae", small)
    with pytest.raises(ValueError, match="kind 'vae', expected 'generator'"):
        check_weights(path, "generator", tiny)


@pytest.mark.parametrize(
    ("job", "config", "args", "said"),
    [
        (train_vae.main, TrainVAE, ["--preset", "huge"], "unknown preset 'huge'"),
        (train_vae.main, TrainVAE, ["--clips", "/nowhere"], "/nowhere"),
        (train_generator.main, train_generator.TrainGenerator, ["--latents", "/nowhere"], "/nowhere"),
        (
            distill_generator.main,
            distill_generator.DistillGenerator,
            ["--teacher", str(STARTER.generator), "--student-steps", "5"],
            "must divide the teacher's 12, got 5",
        ),
        (
            distill_generator.main,
            distill_generator.DistillGenerator,
            ["--teacher", "/nowhere", "--init", "starter"],
            "a student starts from its --teacher",
        ),
        (
            distill_generator.main,
            distill_generator.DistillGenerator,
            ["--teacher", str(STARTER.generator), "--training.rollout-share", "0.5"],
            "--training.rollout-share must be 0",
        ),
        (train_vae.main, TrainVAE, ["--training.mirror", "1.5"], "mirror must be in [0, 1], got 1.5"),
        (
            train_vae.main,
            TrainVAE,
            ["--training.optimizer.ema-decay", "1"],
            "must be at least 0 and below 1",
        ),
        (
            train_vae.main,
            TrainVAE,
            ["--training.stages.1.num-frames", "16"],
            "must be 1 plus a multiple of 4",
        ),
    ],
)
def test_a_users_mistake_is_one_line(
    job: object, config: type, args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.run(job, config, args)  # type: ignore[arg-type]
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error

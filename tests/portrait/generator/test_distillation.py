"""The student's target against teachers whose guided path is known, and a student that learns it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portrait import presets
from portrait.generator import Generator, SamplingConfig
from portrait.generator.distillation import distillation_loss
from portrait.presets import GeneratorTrainingConfig

CONFIG = GeneratorTrainingConfig(steps=1, batch_size=1, learning_rate=1e-3)


class Field(Generator):
    """v(z, t; r, a) = rate·z + speech where it is not dropped: guidance and the path are known in closed form."""

    def __init__(self, rate: float = 0.0, speech: float = 0.0) -> None:
        super().__init__(replace(presets.load("tiny").generator, num_layers=1))
        self.rate, self.speech, self.calls = rate, speech, []

    def forward(self, *, noised, timestep, drop_references, drop_speech=None, **given):
        self.calls.append({"noised": noised, "timestep": timestep, "drop_speech": drop_speech} | given)
        heard = torch.ones(len(noised)) if drop_speech is None else (~drop_speech).float()
        return self.rate * noised + self.speech * heard.view(-1, 1, 1, 1, 1)


@pytest.fixture
def batch():
    return {
        "latents": torch.randn(6, 64, 8, 2, 2),
        "speech": torch.randn(6, 32, 160),
        "reference_latents": torch.randn(6, 2, 64, 2, 2),
        "is_first": torch.tensor([True] * 6),
    }


def loss_of(student, teacher, batch, sampling, steps, *, seed=0):
    rng = torch.Generator().manual_seed(seed)
    loss, metrics = distillation_loss(
        student, teacher, batch, sampling=sampling, steps=steps, config=CONFIG, rng=rng
    )
    assert metrics["distillation_loss"] == loss
    return float(loss)


def test_a_constant_guided_velocity_is_its_own_target(batch):
    """v(a) = 1, v(∅) = 0: at scale 2 the guided velocity is 2 everywhere, whatever the steps."""
    sampling = SamplingConfig(steps=12, audio_guidance=2.0, reference_guidance=2.0)
    assert loss_of(Field(speech=2.0), Field(speech=1.0), batch, sampling, 4) == pytest.approx(0, abs=1e-8)
    assert loss_of(Field(speech=1.0), Field(speech=1.0), batch, sampling, 4) == pytest.approx(1, abs=1e-4)


def test_the_target_is_where_the_teachers_steps_lead(batch):
    """dz/dt = z in n Euler steps of h: z·(1 + h)ⁿ, so the mean slope is z·((1 + h)ⁿ − 1) / (n·h)."""
    sampling = SamplingConfig(steps=8, shift=1.0, audio_guidance=1.0, reference_guidance=1.0)
    h, n = -1 / 8, 4
    slope = ((1 + h) ** n - 1) / (n * h)
    assert loss_of(Field(rate=slope), Field(rate=1.0), batch, sampling, 2) == pytest.approx(0, abs=1e-8)
    assert loss_of(Field(rate=1.0), Field(rate=1.0), batch, sampling, 2) > 1e-2


def test_as_many_steps_as_the_teacher_and_no_guidance_is_the_teacher(generator, batch):
    sampling = SamplingConfig(steps=3, audio_guidance=1.0, reference_guidance=1.0)
    assert loss_of(generator, generator, batch, sampling, 3) == pytest.approx(0, abs=1e-8)
    guided = SamplingConfig(steps=3)
    assert loss_of(generator, generator, batch, guided, 3) > 1e-4


def test_the_student_sees_its_own_timesteps_and_no_dropped_speech(batch):
    student = Field()
    sampling = SamplingConfig(steps=12, shift=5.0)
    for seed in range(8):
        loss_of(student, Field(), batch, sampling, 4, seed=seed)
    timesteps = torch.cat([call["timestep"].flatten() for call in student.calls]).unique()
    t = torch.tensor([0.25, 0.5, 0.75, 1.0])
    torch.testing.assert_close(timesteps, 5 * t / (1 + 4 * t))
    assert all(call["drop_speech"] is None for call in student.calls)


def test_padding_does_not_count(batch):
    class Wrong(Field):
        def forward(self, **given):
            velocity = super().forward(**given).clone()
            velocity[:, :, 4:] += 3
            return velocity

    sampling = SamplingConfig(steps=2)
    padded = batch | {"latent_mask": torch.arange(8)[None].expand(6, -1) < 4}
    assert loss_of(Wrong(), Field(), padded, sampling, 1) == pytest.approx(0, abs=1e-8)
    assert loss_of(Wrong(), Field(), batch, sampling, 1) > 1


def test_steps_that_do_not_divide_are_refused(batch):
    with pytest.raises(ValueError, match="must divide the teacher's 12, got 5"):
        loss_of(Field(), Field(), batch, SamplingConfig(), 5)


def test_a_student_comes_nearer_to_its_guided_teacher(generator, generator_config, batch):
    student = Generator(generator_config)
    student.load_state_dict(generator.state_dict())
    sampling, one = SamplingConfig(steps=4), {name: value[:2] for name, value in batch.items()}
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    with torch.no_grad():
        before = loss_of(student, generator, one, sampling, 2, seed=999)
    for step in range(25):
        rng = torch.Generator().manual_seed(step)
        loss, _ = distillation_loss(
            student, generator, one, sampling=sampling, steps=2, config=CONFIG, rng=rng
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        assert loss_of(student, generator, one, sampling, 2, seed=999) < 0.8 * before

"""The ablation's four models differ in what they should, and its table says what was measured."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest
import torch

from pipelines import ablation, reconstruction
from pipelines.ablation import ARMS, Arm
from pipelines.vae_task import VAETask
from portrait.metrics.perceptual import LPIPS
from portrait.presets import Preset
from portrait.presets.serialization import to_dict
from portrait.storage.clips import ClipTable
from portrait.tracking import flatten
from portrait.vae import VideoVAE


def _figures(psnr: float, l1: float = 0.01) -> dict[str, float]:
    return {"psnr": psnr, "l1": l1}


def _task(preset: Preset, clips: str) -> VAETask:
    return VAETask(preset=preset, clips=clips, clips_version=1, training=preset.vae_training)


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_changes_its_switches_and_nothing_else(arm: Arm, micro_preset: Preset) -> None:
    task = _task(micro_preset, "nowhere")
    before, after = (flatten({**t.params(), "preset": to_dict(t.preset)}) for t in (task, arm.task(task)))
    changed = {key: after[key] for key in after if after[key] != before[key]}
    expected = {}
    if not arm.residual:
        expected |= {"vae.residual_resampling": False, "preset.vae.residual_resampling": False}
    if not arm.references:
        expected |= {"vae_training.max_references": 0}
    assert changed == expected


def test_all_arms_have_the_same_weights_to_begin_with(micro_preset: Preset) -> None:
    # The shortcuts of CR-VA have no parameters, so equal seeds must give equal weights.
    states = []
    for arm in ARMS:
        torch.manual_seed(0)
        states.append(arm.task(_task(micro_preset, "nowhere")).build().state_dict())
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[name], states[0][name]) for name in state)


def test_a_models_gain_is_over_the_one_without_references_of_its_own_kind() -> None:
    measured = {
        "plain-no-ref": {0: _figures(20.0)},
        "plain": {0: _figures(19.5), 1: _figures(22.5), 2: _figures(23.0), 3: _figures(23.25)},
        "cr-va-no-ref": {0: _figures(21.0)},
        "cr-va": {1: _figures(25.0), 2: _figures(26.0), 3: _figures(27.0)},
    }
    rows = ablation.rows_of(measured)
    assert [(row.arm, row.count, row.delta) for row in rows] == [
        ("plain-no-ref", 0, None),
        ("plain", 0, -0.5),
        ("plain", 1, 2.5),
        ("plain", 2, 3.0),
        ("plain", 3, 3.25),
        ("cr-va-no-ref", 0, None),
        ("cr-va", 1, 4.0),
        ("cr-va", 2, 5.0),
        ("cr-va", 3, 6.0),
    ]


def test_the_figures_are_those_of_the_pictures_in_0_to_1(micro_preset: Preset, micro_clips: str) -> None:
    torch.manual_seed(0)
    vae = VideoVAE(micro_preset.vae).eval()
    clips = reconstruction.read_clips(ClipTable.open(micro_clips), split="train", size=64, count=2)
    measured = ablation.measure(vae, clips, (0, 2), LPIPS())
    assert set(measured) == {0, 2}
    for count, metrics in measured.items():
        psnr, l1 = [], []
        for clip in clips:
            made = reconstruction.reconstruct(vae, clip, (count,))[count].double().permute(1, 2, 3, 0).numpy()
            error = (made + 1) / 2 - clip.frames / 255
            psnr.append(-10 * np.log10((error**2).mean()))
            l1.append(np.abs(error).mean())
        assert metrics == pytest.approx({"psnr": np.mean(psnr), "l1": np.mean(l1)}, rel=1e-5)


def test_no_clips_is_an_error_and_no_figure(micro_preset: Preset) -> None:
    with pytest.raises(ValueError, match="no held-out clips"):
        ablation.measure(VideoVAE(micro_preset.vae), [], (0,), LPIPS())


def test_markdown_csv_and_plot_hold_the_rows() -> None:
    rows = ablation.rows_of(
        {"cr-va-no-ref": {0: _figures(20.125, 0.02)}, "cr-va": {1: {**_figures(22.0), "lpips": 0.25}}}
    )
    text = ablation.markdown({"held out": rows}, {"hardware": "an abacus"})
    assert "- hardware: an abacus" in text
    assert "| w. CR-VA, no ref. | 0 | 0.0200 | 20.125 | – | not measured |" in text
    assert "| w. CR-VA | 1 | 0.0100 | 22.000 | +1.875 | 0.250 |" in text

    read = list(csv.DictReader(io.StringIO(ablation.as_csv({"held out": rows}))))
    assert [(row["data"], row["arm"], float(row["psnr"])) for row in read] == [
        ("held out", "cr-va-no-ref", 20.125),
        ("held out", "cr-va", 22.0),
    ]
    assert [row["lpips"] for row in read] == ["", "0.25"]

    picture = ablation.plot({"held out": rows})
    lower = ablation.plot({"held out": [dataclasses.replace(rows[0], psnr=10.0), rows[1]]})
    assert picture.dtype == np.uint8
    assert (picture != lower).any()
    assert ablation.plot({"held out": rows, "elsewhere": rows}).shape[1] == 2 * picture.shape[1]

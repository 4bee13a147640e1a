"""The ablation's job trains its four models, measures them and writes its tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs import ablate_vae
from jobs.ablate_vae import AblateVAE

ARMS = {"plain-no-ref": (0,), "plain": (0, 1, 2, 3), "cr-va-no-ref": (0,), "cr-va": (0, 1, 2, 3)}
"""The models and the numbers of references they are measured at."""

CONFIG = {"stages": (0,), "steps": 2, "batch_size": 1, "workers": 0, "count": 1, "device": "cpu"}


@pytest.mark.slow
def test_four_models_one_table_and_one_run_above_theirs(micro_clips: str, tmp_path: Path) -> None:
    config = AblateVAE.of_preset(
        "tiny", clips=micro_clips, output=tmp_path, benchmarks=(micro_clips,), **CONFIG
    )
    tables = ablate_vae.main(config)
    assert list(tables) == [f"{micro_clips} version 1: 1 clips of split test"]
    for rows in tables.values():
        assert [(row.arm, row.count) for row in rows] == [
            (name, m)
            for name, counts in (
                ("plain-no-ref", "0"),
                ("plain", "0123"),
                ("cr-va-no-ref", "0"),
                ("cr-va", "0123"),
            )
            for m in map(int, counts)
        ]
    assert (tmp_path / "ablation.csv").read_text().count("\n") == 1 + 10
    assert (tmp_path / "ablation.png").stat().st_size > 5_000
    assert (
        "steps made: plain-no-ref 2, plain 2, cr-va-no-ref 2, cr-va 2"
        in (tmp_path / "ablation.md").read_text()
    )

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (above,) = [run for run in runs if run.data.tags["mlflow.runName"] == "ablate_vae"]
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == above.info.run_id]
    assert len(below) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert above.data.metrics["table0/psnr_cr-va"] == pytest.approx(_last_psnr(tables))
    records = [json.loads((tmp_path / name / "vae_training.json").read_text()) for name in ARMS]
    assert {record["uri"] for record in records} == {f"sqlite:///{tmp_path / 'mlflow.db'}"}


def test_a_resumed_ablation_goes_on_under_the_same_run(tmp_path: Path) -> None:
    config = AblateVAE.of_preset("tiny", output=tmp_path)
    first = ablate_vae.open_run(config, {"preset": "tiny"})
    first.finish(failed=True)
    resumed = ablate_vae.open_run(dataclasses.replace(config, resume=True), {"preset": "tiny"})
    assert resumed == first
    assert MlflowClient(tracking_uri=first.uri).get_run(first.run_id).info.status == "RUNNING"
    assert ablate_vae.open_run(config, {}).run_id != first.run_id


def _last_psnr(tables: ablate_vae.Tables) -> float:
    """PSNR of the first table's last row, the last point of its curve."""
    return next(iter(tables.values()))[-1].psnr


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"count": 0}, "--count must be positive, got 0"), ({"init": "starter"}, "--init")],
)
def test_a_users_mistake_is_named(changed: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        ablate_vae.main(AblateVAE.of_preset("tiny", output=tmp_path, **{**CONFIG, **changed}))

import contextlib
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from portrait import tracking
from portrait.tracking_outage import TRACKING_URI_VARIABLE


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


def test_a_run_comes_back_from_sqlite(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACKING_URI_VARIABLE, raising=False)
    run = tracking.start_run("test", "first", {"a": {"b": 1}, "c": "x" * 2000}, output=output)
    assert run.uri.startswith("sqlite:///")
    again = tracking.attach(run.run_id, run.uri)
    run.log_metrics({"loss": 2.0}, step=1)
    again.log_metrics({"loss": 1.0, "broken": float("nan")}, step=2)
    run.log_image(np.full((4, 6, 3), 200, np.uint8), "eval/picture.png")
    run.finish()

    assert again.history("loss") == [(1, 2.0), (2, 1.0)]
    assert again.metrics() == {"loss": 1.0}
    from mlflow import MlflowClient

    stored = MlflowClient(tracking_uri=run.uri).get_run(run.run_id)
    assert stored.data.params["a.b"] == "1"
    assert stored.data.tags["not_finite.broken"] == "2"
    assert stored.info.status == "FINISHED"
    assert [path.name for path in (output / "mlartifacts").rglob("*.png")] == ["picture.png"]


def test_an_unknown_run_is_refused(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRACKING_URI_VARIABLE, raising=False)
    with pytest.raises(ValueError, match="has no run 'nothing'"):
        tracking.attach("nothing", tracking.tracking_uri(output))


def test_a_server_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACKING_URI_VARIABLE, "http://tracking:5000")
    assert tracking.tracking_uri("anywhere") == "http://tracking:5000"


def test_nested_parameters_become_dotted_names() -> None:
    assert tracking.flatten({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "FAILED")]
)
def test_a_run_ends_where_its_block_ends(
    output: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | None, status: str
) -> None:
    monkeypatch.delenv(TRACKING_URI_VARIABLE, raising=False)
    run = tracking.start_run("test", "block", {}, output=output)
    with contextlib.nullcontext() if error is None else pytest.raises(error), run:
        if error is not None:
            raise error
    assert MlflowClient(tracking_uri=run.uri).get_run(run.run_id).info.status == status

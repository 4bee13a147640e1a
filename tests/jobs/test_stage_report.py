"""Stages: rows with their figures, and failures in one line that names the stage."""

from __future__ import annotations

import pytest

from jobs.stage_report import StageError, StageReport


def test_stages_are_announced_and_tabled_with_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    report = StageReport(total=2)
    with report.stage("footage") as stage:
        stage.note("12 clips")
    assert "1/2" in capsys.readouterr().out
    with report.stage("clips table"):
        pass
    capsys.readouterr()
    report.print()
    shown = capsys.readouterr().out
    assert shown.index("footage") < shown.index("12 clips") < shown.index("clips table") < shown.index("all")


@pytest.mark.parametrize(
    ("error", "users_own"), [(ValueError("clip.mp4:\n truncated"), True), (RuntimeError("no reply"), False)]
)
def test_a_failing_stage_says_which_and_why_in_one_line(error: Exception, users_own: bool) -> None:
    report = StageReport(total=1)
    with pytest.raises(StageError) as raised, report.stage("clips table"):
        raise error
    assert str(raised.value) == f"stage 'clips table' failed: {' '.join(str(error).split())}"
    assert raised.value.users_own is users_own
    assert raised.value.__cause__ is error
    assert report.stages[0].seconds >= 0

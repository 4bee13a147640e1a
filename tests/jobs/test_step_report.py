"""Steps: rows with their notes, and failures in one line that names the step."""

from __future__ import annotations

import pytest

from jobs.step_report import StepError, StepReport


def test_steps_are_announced_and_tabled_with_their_notes(capsys: pytest.CaptureFixture[str]) -> None:
    report = StepReport(total=2)
    with report.step("footage") as step:
        step.note("12 clips")
    assert "1/2" in capsys.readouterr().out
    with report.step("clips table"):
        pass
    capsys.readouterr()
    report.print()
    shown = capsys.readouterr().out
    assert (
        shown.index("footage") < shown.index("12 clips") < shown.index("clips table") < shown.index("total")
    )


@pytest.mark.parametrize(
    ("error", "is_user_error"),
    [(ValueError("clip.mp4:\n truncated"), True), (RuntimeError("no reply"), False)],
)
def test_a_failing_step_says_which_and_why_in_one_line(error: Exception, is_user_error: bool) -> None:
    report = StepReport(total=1)
    with pytest.raises(StepError) as raised, report.step("clips table"):
        raise error
    assert str(raised.value) == f"step 'clips table' failed: {' '.join(str(error).split())}"
    assert raised.value.is_user_error is is_user_error
    assert raised.value.__cause__ is error
    assert report.steps[0].seconds >= 0

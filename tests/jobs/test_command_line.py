"""One clear line and exit code 2 for errors that a user can fix; a traceback for bugs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from jobs import command_line
from portrait import presets


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example job."""

    source: str
    """Where the material is."""
    preset: str = "tiny"
    """Which preset."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """DeepSpeed's ZeRO stage."""


def _main(config: Example) -> None:
    presets.load(config.preset)
    if not Path(config.source).exists():
        raise FileNotFoundError(f"--source {config.source}: no such folder")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", ".", "--nope", "1"], "--nope"),
        (["--source", ".", "--preset", "huge"], "unknown preset 'huge'; known presets: tiny, small, paper"),
        (["--source", ".", "--zero-stage", "7"], "invalid choice '7' for argument '--zero-stage'"),
        (["--source"], "--source"),
        ([], "--source"),
        (["--source", "not/there"], "--source not/there: no such folder"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.run(_main, Example, arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert said in captured.err


def test_good_arguments_reach_the_job() -> None:
    seen: list[Example] = []
    command_line.run(seen.append, Example, ["--source", "here", "--zero-stage", "3"])
    assert seen == [Example(source="here", zero_stage=3)]


def test_help_shows_every_fields_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_line.run(_main, Example, ["--help"])
    assert not stop.value.code
    shown = capsys.readouterr().out
    for said in ("An example job.", "Where the material is.", "Which preset.", "DeepSpeed's ZeRO stage."):
        assert said in shown


def test_a_message_of_several_lines_becomes_one() -> None:
    assert command_line.one_line(ValueError("first\n  second\n")) == "first second"


def test_an_error_of_a_ray_task_is_told_without_the_workers_traceback(ray_session: None) -> None:
    import ray

    @ray.remote(num_cpus=0, max_retries=0)
    def fails() -> None:
        raise ValueError("clip.mp4: truncated")

    with pytest.raises(ValueError, match="truncated") as raised:
        ray.get(fails.remote(), timeout=120)
    assert command_line.one_line(raised.value) == "clip.mp4: truncated"


def test_defects_keep_their_traceback() -> None:
    def broken(config: Example) -> None:
        raise AssertionError(config.source)

    with pytest.raises(AssertionError, match="here"):
        command_line.run(broken, Example, ["--source", "here"])


def test_the_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAIT_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match="not/there"):
        command_line.run(_main, Example, ["--source", "not/there"])

"""Every job explains itself: all its flags have a sentence, and its help shows them."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from jobs import command_line

JOBS = Path(command_line.__file__).parent


def _configurations() -> dict[str, str]:
    """Job → name of the dataclass, or of the union of subcommands, that its last line hands to `command_line.run`."""
    found = {}
    for path in sorted([*JOBS.glob("*.py"), *JOBS.glob("*/__main__.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(node.args[1], ast.Name):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called == "run":
                    found[".".join(path.relative_to(JOBS).with_suffix("").parts)] = node.args[1].id
    return found


CONFIGURATIONS = {job: name for job, name in _configurations().items() if job != "command_line"}


def test_the_jobs_of_the_house_are_all_there() -> None:
    wanted = {
        "prepare_data",
        "train_vae",
        "encode_latents",
        "train_generator",
        "generate",
        "serve",
        "evaluate",
        "ablate_vae",
        "benchmark.__main__",
        "package_weights",
        "demo",
    }
    assert wanted <= CONFIGURATIONS.keys()


@pytest.mark.parametrize("job", CONFIGURATIONS)
def test_help_explains_every_flag(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    config: Any = getattr(importlib.import_module(f"jobs.{job}"), CONFIGURATIONS[job])
    for arguments, command in _commands(config):
        assert command.__dataclass_params__.frozen
        with pytest.raises(SystemExit) as stop:
            command_line.parse(config, [*arguments, "--help"])
        assert not stop.value.code
        shown = capsys.readouterr().out
        for field in dataclasses.fields(command):
            assert f"--{field.name.replace('_', '-')}" in shown
        undocumented = _fields_without_sentence(command)
        assert not undocumented


def _commands(config: Any) -> list[tuple[list[str], Any]]:
    """The arguments that select each subcommand, and its dataclass; a job without subcommands needs no arguments."""
    subcommands = [get_args(annotated) for annotated in get_args(config)]
    return [([how.name], command) for command, how in subcommands] or [([], config)]


def _fields_without_sentence(config: type) -> list[str]:
    """Fields, inherited ones too, below which no docstring stands."""
    missing = []
    for cls in config.__mro__[:-1]:
        path = Path(sys.modules[cls.__module__].__file__ or "")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        body = next(
            node.body
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name == cls.__name__
        )
        for field, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if not text:
                    missing.append(f"{cls.__name__}.{field.target.id}")
    return missing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs.train_vae", "--nope", "1"], "error: Unrecognized options: --nope"),
        (["jobs.prepare_data", "--source", "not/there"], "not/there"),
        (["jobs.prepare_data", "--source", ".", "--preset", "huge"], "error: unknown preset 'huge'"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, repository: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", *arguments, "--output", str(tmp_path / "run")]
    answer = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False, timeout=200)
    assert answer.returncode == 2
    errors = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in answer.stderr

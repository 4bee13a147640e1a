"""The command line that all jobs share: flags and `--help` from a typed dataclass, one clear line for a user's error.

A job's last line is `run(main, Config)`. Exit codes: 0 for success, 2 for what the user can fix (an unknown flag or
preset, a missing or broken file, a value out of range), 130 after Ctrl-C. Any other exception is a bug and keeps its
traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

Config = TypeVar("Config")

USER_ERRORS = (
    ValueError,
    FileExistsError,
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""Exceptions that report what a user can fix; bugs raise others, or assertions."""


def run(
    main: Callable[[Config], object], config_type: type[Config], args: Sequence[str] | None = None
) -> None:
    """Parses `args` into `config_type`, calls `main` with it, and reports a user's error in one line.

    Args:
        main: the job.
        config_type: frozen dataclass, or a union of them as subcommands (`tyro.conf.subcommand`); its docstring and its
            fields' docstrings become `--help`.
        args: the arguments after the program's name; None takes those of the process.

    Raises:
        SystemExit: with code 2 for an error that the user can fix, 130 after an interruption.
    """
    # The warning is about fork without exec; Ray's processes call exec at once.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    try:
        main(parse(config_type, args))
    except USER_ERRORS as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def parse(config_type: type[Config], args: Sequence[str] | None = None) -> Config:
    """The configuration that the arguments describe.

    Raises:
        ValueError: a flag is unknown, missing or has a wrong value; in one line, where tyro draws a box.
        SystemExit: with code 0 after `--help`.
    """
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(config_type, args=args, prog=_program(), **_preset_defaults(config_type, args))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ValueError(_unboxed(box.getvalue())) from None


def _preset_defaults(config_type: type, args: Sequence[str] | None) -> dict[str, Any]:
    """Keyword arguments of `tyro.cli` for a job whose defaults depend on the preset that the same command line names.

    Such a job has a class method `of_preset`, which returns its configuration with the preset's values. tyro builds a
    flag for each of its fields, nested ones too.

    Raises:
        ValueError: there is no preset of that name.
    """
    if not hasattr(config_type, "of_preset"):
        return {}
    fields = {field.name: field for field in dataclasses.fields(config_type)}
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--preset", nargs="?")
    preset = finder.parse_known_args(args)[0].preset or fields.pop("preset").default
    required = {
        name: tyro.MISSING
        for name, field in fields.items()
        if name != "training" and field.default is field.default_factory is dataclasses.MISSING
    }
    return {"default": config_type.of_preset(preset, **required)}


def fail(error: Exception) -> NoReturn:
    """Prints the error as one line on the standard error stream and exits with code 2.

    With `PORTRAIT_TRACEBACK=1` the exception is raised instead, to see where it came from.
    """
    if os.environ.get("PORTRAIT_TRACEBACK") == "1":
        raise error
    print(f"error: {one_line(error)}", file=sys.stderr)
    raise SystemExit(2) from None


def one_line(error: BaseException) -> str:
    """An error's message in one line, without the worker's traceback if it was raised in a Ray task."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return one_line(cause)
    return " ".join(str(error).split()) or type(error).__name__


def _program() -> str:
    """The command that started the job, as `--help` shows it."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        script = script.parent.with_suffix(".py")
    return f"python -m {script.parent.name}.{script.stem}" if script.suffix == ".py" else script.name


def _unboxed(message: str) -> str:
    """The message in tyro's box as one line: without the frame, the title and the pointer to `--help`.

    The frame consists of box characters, and the title is part of it. Without Unicode it consists of spaces and
    hyphens, and the title is the first row.
    """
    rows = [row.strip("│ ") for row in message.splitlines() if not row.startswith(("╭", "╰"))]
    if "╭" not in message:
        rows = rows[1:]
    said = []
    for row in rows:
        if row.startswith("For full helptext"):
            break
        if row.strip("─-"):
            said.append(row)
    return " ".join(" ".join(said).split()) + f" (see {_program()} --help)"

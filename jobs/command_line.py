"""The command line that all jobs share: flags and `--help` from a typed dataclass, one clear line for a user's error.

`run(main, Config)` is all that a job's last line needs. Exit codes: 0 for success, 2 for what the user can mend (an unknown
flag or preset, a missing or broken file, a value out of range), 130 after Ctrl-C; anything else is a defect of ours and
keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

Config = TypeVar("Config")

USER_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


def run(main: Callable[[Config], None], config_type: type[Config], args: Sequence[str] | None = None) -> None:
    """Parses `args` into `config_type`, calls `main` with it, and turns a user's error into one line.

    Args:
        main: what the job does.
        config_type: frozen dataclass; its docstring and its fields' docstrings become `--help`.
        args: the arguments after the program's name; None takes those of the process.

    Raises:
        SystemExit: with code 2 for an error that the user can mend, 130 after an interruption.
    """
    try:
        config = tyro.cli(config_type, args=args, config=(tyro.conf.ConsolidateSubcommandArgs,))
        main(config)
    except USER_ERRORS as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def fail(error: Exception) -> None:
    """Prints the error as one line on the standard error stream and leaves with code 2.

    Set `PORTRAIT_TRACEBACK=1` to see where it came from.
    """
    if os.environ.get("PORTRAIT_TRACEBACK") == "1":
        raise error
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2) from None

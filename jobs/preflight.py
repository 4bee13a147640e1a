"""Checks what the machine must have before anything is installed: run by `make` with the bare system Python.

    python3 jobs/preflight.py [--environment .venv]

Prints the interpreter to create the environment with on the standard output. If something is missing, all of it is
listed on the standard error stream with how to install it, and the exit code is 1. Uses only the standard library and
syntax of Python 3.8, so that an old interpreter can report that it is too old.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple  # noqa: UP035 (evaluated by Python 3.8)

OLDEST_PYTHON = (3, 11)
INTERPRETERS = ("python3", "python3.13", "python3.12", "python3.11")
COMPILERS = ("g++", "c++", "clang++")
GIGABYTE = 1024**3
DISK_FOR_ENVIRONMENT = 12 * GIGABYTE
DISK_FOR_UNPACKING = 5 * GIGABYTE
DISK_FOR_RUN = 2 * GIGABYTE

PROBE = """
import json, sys
found = {"version": sys.version_info[:3], "executable": sys.executable, "missing": []}
for name in ("venv", "ensurepip"):
    try:
        __import__(name)
    except ImportError:
        found["missing"].append(name)
print(json.dumps(found))
"""

PROGRAM = "#include <vector>\nint main() { std::vector<int> v{1}; return v.size() == 1 ? 0 : 1; }\n"


class Interpreter(NamedTuple):
    """A Python interpreter that ran the probe."""

    executable: str
    version: Tuple[int, ...]  # noqa: UP006
    has_venv: bool


def main() -> int:
    """Runs all checks and reports all problems; returns the exit code."""
    parser = argparse.ArgumentParser(description="Checks what the machine must have before the installation.")
    parser.add_argument("--environment", type=Path, default=Path(".venv"), help="folder of the environment")
    environment = parser.parse_args().environment

    interpreter, problems = choose_interpreter(os.environ.get("PYTHON"))
    problems += check_compiler(os.environ.get("CXX"))
    problems += check_disk(environment)
    if problems or interpreter is None:
        print("Requirements are missing; nothing was installed:", file=sys.stderr)
        for problem in problems:
            print(f"  - {problem}", file=sys.stderr)
        return 1
    print(interpreter.executable)
    return 0


def choose_interpreter(wanted: Optional[str]) -> Tuple[Optional[Interpreter], List[str]]:  # noqa: UP006, UP045
    """The first interpreter that meets the requirements, or None with the problems found."""
    names = (wanted,) if wanted else INTERPRETERS
    answers = [answer for answer in map(probe_interpreter, names) if answer]
    recent = [answer for answer in answers if answer.version >= OLDEST_PYTHON]
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if not recent:
        found = (
            ", ".join(f"{a.executable} is {'.'.join(map(str, a.version))}" for a in answers) or "found none"
        )
        return None, [
            f"Python {oldest} or newer ({found}). Debian, Ubuntu: apt install python3 python3-venv; "
            f"elsewhere: make PYTHON=/path/to/python{oldest}"
        ]
    complete = [answer for answer in recent if answer.has_venv]
    if complete:
        return complete[0], []
    best = recent[0]
    package = f"python{best.version[0]}.{best.version[1]}-venv"
    return None, [f"the venv module of {best.executable}. Debian, Ubuntu: apt install {package}"]


def probe_interpreter(name: str) -> Optional[Interpreter]:  # noqa: UP045
    """Version and modules of the interpreter of that name; None if it does not exist or does not start."""
    import json

    path = shutil.which(name)
    if path is None:
        return None
    try:
        answer = subprocess.run(
            [path, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=True
        )
        found = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(found["executable"], tuple(found["version"]), not found["missing"])


def check_compiler(wanted: Optional[str]) -> List[str]:  # noqa: UP006, UP045
    """Problems with the C++ compiler, which must compile and link a C++17 program."""
    advice = "Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++"
    names = (wanted,) if wanted else COMPILERS
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        return [
            f"a C++ compiler (looked for {', '.join(names)}; DeepSpeed builds its extensions with it). {advice}"
        ]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(PROGRAM)
        command = [path, "-std=c++17", str(source), "-o", str(Path(folder) / "probe")]
        try:
            subprocess.run(command, capture_output=True, timeout=120, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            return [
                f"a working C++ compiler: {path} failed on a C++17 program ({(said or [error])[0]}). {advice}"
            ]
    return []


def check_disk(environment: Path) -> List[str]:  # noqa: UP006
    """Problems with disk space for the environment (if it is not installed yet) and for what a run writes."""
    installed = (environment / ".installed").exists()
    place = environment.absolute().parent
    problems = []
    needed = DISK_FOR_RUN if installed else DISK_FOR_ENVIRONMENT
    free = shutil.disk_usage(place).free
    if free < needed:
        problems.append(
            f"disk: {free / GIGABYTE:.1f} GB free in {place}, "
            f"{needed / GIGABYTE:.0f} GB needed ({'a run' if installed else 'the environment and a run'})"
        )
    scratch = Path(tempfile.gettempdir())
    free = shutil.disk_usage(scratch).free
    if not installed and free < DISK_FOR_UNPACKING:
        problems.append(
            f"disk: {free / GIGABYTE:.1f} GB free in {scratch}, {DISK_FOR_UNPACKING / GIGABYTE:.0f} GB needed "
            "to unpack packages; set TMPDIR=/another/folder to unpack them there"
        )
    return problems


if __name__ == "__main__":
    raise SystemExit(main())

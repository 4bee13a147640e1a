"""The check before the installation: it must say all that is missing, on a bare Python, and install nothing."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs import preflight


def _run(repository: Path, environment: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-E", "jobs/preflight.py", "--environment", str(environment)]
    return subprocess.run(
        command,
        cwd=repository,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_it_reads_on_python_3_8(repository: Path) -> None:
    source = (repository / "jobs" / "preflight.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else name.name) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_it_names_an_interpreter_that_makes_environments(repository: Path, tmp_path: Path) -> None:
    compiler = _executable(tmp_path / "cxx", "#!/bin/sh\nexit 0\n")
    (tmp_path / ".installed").touch()  # the room for an environment is another test's matter
    answer = _run(repository, tmp_path, CXX=str(compiler))
    if answer.returncode:
        pytest.skip(f"this machine could not install the project: {answer.stderr}")
    chosen = answer.stdout.strip()
    said = subprocess.run(
        [chosen, "-c", "import sys, venv, ensurepip; print(sys.version_info >= (3, 11))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "True"


def test_all_that_is_missing_is_said_at_once(repository: Path, tmp_path: Path) -> None:
    old = _executable(
        tmp_path / "python3",
        '#!/bin/sh\necho \'{"version": [3, 9, 2], "executable": "/usr/bin/python3.9", "missing": []}\'\n',
    )
    answer = _run(repository, tmp_path / "new", PYTHON=str(old), CXX="no-such-compiler")
    assert answer.returncode == 1
    assert not answer.stdout
    assert "nothing was installed" in answer.stderr
    assert "Python 3.11 or newer (/usr/bin/python3.9 is 3.9.2)" in answer.stderr
    assert "a C++ compiler (looked for no-such-compiler" in answer.stderr
    assert not (tmp_path / "new").exists()


def test_a_missing_venv_module_is_told_with_its_package(tmp_path: Path) -> None:
    bare = _executable(
        tmp_path / "python3",
        '#!/bin/sh\necho \'{"version": [3, 12, 1], "executable": "/usr/bin/python3.12", '
        '"missing": ["ensurepip"]}\'\n',
    )
    interpreter, problems = preflight.choose_interpreter(str(bare))
    assert interpreter is None
    assert problems == ["the venv module of /usr/bin/python3.12. Debian, Ubuntu: apt install python3.12-venv"]


def test_a_compiler_that_does_not_work_is_told_from_one_that_is_missing(tmp_path: Path) -> None:
    broken = _executable(
        tmp_path / "g++", "#!/bin/sh\necho 'fatal error: vector: No such file' >&2\nexit 1\n"
    )
    (problem,) = preflight.check_compiler(str(broken))
    assert "a working C++ compiler" in problem
    assert "fatal error: vector" in problem


def test_disk_space_for_the_environment_is_asked_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6 * preflight.GIGABYTE))
    environment = tmp_path / "environment"
    environment.mkdir()
    (problem,) = preflight.check_disk(environment)
    assert "6.0 GB free" in problem
    assert "12 GB needed" in problem
    (environment / ".installed").touch()
    assert preflight.check_disk(environment) == []

"""The house itself: names that must not hide the standard library's, files no longer than a read at a glance."""

from __future__ import annotations

import ast
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"]).resolve()
SOURCES = ("platform/portrait", "data_prep", "pipelines", "jobs", "serve_apps")


def test_platform_is_the_standard_librarys_in_tests() -> None:
    assert Path(platform.__file__).resolve().parent == STANDARD_LIBRARY
    assert platform.system()


def test_platform_is_the_standard_librarys_from_the_repositorys_root(repository: Path) -> None:
    # `python -c` puts the current folder first on the path: the case in which a package would win
    program = "import platform; print(platform.__file__); platform.machine()"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert Path(answer.stdout.strip()).resolve().parent == STANDARD_LIBRARY


def test_platform_is_the_standard_librarys_in_ray_workers(ray_session: None) -> None:
    import ray

    @ray.remote(num_cpus=0)
    def where() -> str:
        import platform as seen_by_the_worker

        return seen_by_the_worker.__file__

    assert Path(ray.get(where.remote(), timeout=120)).resolve().parent == STANDARD_LIBRARY


def test_the_source_root_is_no_package(repository: Path) -> None:
    assert not (repository / "platform" / "__init__.py").exists()
    assert not list((repository / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("folder", SOURCES)
def test_every_folder_of_sources_is_a_package(repository: Path, folder: str) -> None:
    modules = [path for path in (repository / folder).rglob("*.py") if path.name != "__init__.py"]
    assert modules, f"{folder} holds no modules"
    missing = {path.parent for path in modules if not (path.parent / "__init__.py").exists()}
    assert not missing


@pytest.mark.parametrize("folder", SOURCES)
def test_every_file_says_what_it_is(repository: Path, folder: str) -> None:
    silent = [
        str(path.relative_to(repository))
        for path in (repository / folder).rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent


@pytest.mark.parametrize("folder", SOURCES)
def test_files_and_functions_stay_readable(repository: Path, folder: str) -> None:
    long = []
    for path in (repository / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 450:
            long.append(f"{path.relative_to(repository)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 90:
                    long.append(f"{path.relative_to(repository)}:{node.lineno} {node.name}: {length} lines")
    assert not long

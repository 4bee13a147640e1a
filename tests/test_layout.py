"""The repository itself: no name shadows the standard library, files stay short, pages name files that exist."""

from __future__ import annotations

import ast
import platform
import re
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
        if text.count("\n") > 400:
            long.append(f"{path.relative_to(repository)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    long.append(f"{path.relative_to(repository)}:{node.lineno} {node.name}: {length} lines")
    assert not long


def _pages(repository: Path) -> list[Path]:
    return [*repository.glob("*.md"), *(repository / "docs").rglob("*.md")]


def test_the_files_that_the_pages_name_exist(repository: Path) -> None:
    """Paths in inline code, relative to the repository, to `platform/` or to `platform/portrait/`."""
    roots = [repository, repository / "platform", repository / "platform" / "portrait"]
    missing, found = [], 0
    for page in _pages(repository):
        if page.name == "CHANGELOG.md":  # names files of older versions too
            continue
        for path in re.findall(r"`([\w.-]+/[\w./-]*)`", page.read_text(encoding="utf-8")):
            if not any((root / path.split("/")[0]).is_dir() for root in roots):
                continue  # a metric, a folder of a user, …
            found += 1
            if not any((root / path).exists() for root in roots):
                missing.append(f"{page.relative_to(repository)}: {path}")
    assert not missing
    assert found > 20


def test_the_links_of_the_pages_lead_somewhere(repository: Path) -> None:
    broken, found = [], 0
    for page in _pages(repository):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            found += 1
            file, _, anchor = target.partition("#")
            linked = (page.parent / file).resolve() if file else page
            if not linked.exists() or (anchor and anchor not in _anchors(linked)):
                broken.append(f"{page.relative_to(repository)}: {target}")
    assert not broken
    assert found > 20


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_questions_of_newcomers_have_answers(repository: Path) -> None:
    """Each row of "Where do I find …" names at least one file."""
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Where do I find …\n", 1)[1].split("\n## ", 1)[0]
    rows = [
        line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| question")
    ]
    assert len(rows) >= 10
    assert all(re.search(r"`[\w-]+/[\w./-]*`", row) for row in rows)


def test_the_readmes_layout_is_true(repository: Path) -> None:
    """It names all folders of sources and all parts of `portrait`, and nothing else."""
    text = (repository / "README.md").read_text(encoding="utf-8")
    block = text.split("## Layout\n\n```\n", 1)[1].split("\n```", 1)[0]
    named = re.findall(r"^([\w/]+)/ ", block, re.MULTILINE)
    assert set(named) == {*SOURCES, "tests", "docs"}
    assert all((repository / folder).is_dir() for folder in named)
    parts = re.findall(r"\w+", block.split("\ndata_prep/", 1)[0].split(":", 1)[1])
    portrait = repository / "platform" / "portrait"
    packages = {path.parent.name for path in portrait.glob("*/__init__.py")}
    assert packages <= set(parts) <= packages | {path.stem for path in portrait.glob("*.py")}

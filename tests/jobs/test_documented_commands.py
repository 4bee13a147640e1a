"""Every job, flag and application argument that README, CONTRIBUTING and docs mention exists."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from jobs import command_line
from serve_apps.arguments import StreamArgs

JOBS = Path(command_line.__file__).parent
PAGES = sorted([*JOBS.parent.glob("*.md"), *(JOBS.parent / "docs").rglob("*.md")])
MODULE = re.compile(r"python -m ([\w.]+)(?: ([a-z][\w-]*))?")
"""A module and the word after it, which names a subcommand if the module is a package."""
RUN = re.compile(r"^    (?:command_line\.)?run\(main, (\w+)", re.MULTILINE)
"""A job's last line, with its configuration."""
FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
FOREIGN = re.compile(r"^(git|make|mlflow|pip|ray job submit|serve)\b(.*? -- )?")
"""Other programs with their own flags, up to a command of this project that they start."""


@cache
def flags(job: str) -> frozenset[str]:
    """All flags in the help of a job, `MODULE` or `PACKAGE SUBCOMMAND`."""
    module, *subcommand = job.split()
    imported = importlib.import_module(f"{module}.__main__" if subcommand else module)
    called = RUN.search(inspect.getsource(imported))
    assert called, f"{module} is not a job"
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        command_line.parse(getattr(imported, called[1]), [*subcommand, "--help"])
    return frozenset(FLAG.findall(text.getvalue()))


@cache
def all_flags() -> frozenset[str]:
    """The flags of all jobs and benchmarks."""
    jobs = [f"jobs.{path.stem}" for path in JOBS.glob("*.py") if RUN.search(path.read_text())]
    benchmarks = re.findall(r'subcommand\("([\w-]+)"\)', (JOBS / "benchmark" / "__main__.py").read_text())
    assert benchmarks
    return frozenset().union(*map(flags, [*jobs, *(f"jobs.benchmark {name}" for name in benchmarks)]))


def jobs_in(code: str) -> Iterator[str]:
    """The modules that a command runs; a package with its subcommand."""
    for module, word in MODULE.findall(code):
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"python -m {module}: there is no such module"
        yield f"{module} {word}".strip() if spec.submodule_search_locations else module


def snippets(page: Path) -> Iterator[list[str]]:
    """The commands of each bash block, and each piece of inline code."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield [code]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.stem
)
def test_documented_flags_exist(page: Path) -> None:
    """A flag must be one of the job on the same line; else one of the jobs in the block; else of any job."""
    unknown = []
    for lines in snippets(page):
        in_block = [job for line in lines for job in jobs_in(line) if job.startswith("jobs.")]
        for line in lines:
            command = FOREIGN.sub("", line) if " -- " in line or not FOREIGN.match(line) else ""
            named = [job for job in jobs_in(command) if job.startswith("jobs.")] or in_block
            known = frozenset().union(*map(flags, named)) if named else all_flags()
            for flag in FLAG.findall(command):
                prefix = flag.endswith(".")  # as in --filters.…
                if flag not in known and not (prefix and any(other.startswith(flag) for other in known)):
                    unknown.append(f"{flag} in: {command.strip()}")
    assert not unknown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_documented_application_arguments_exist(page: Path) -> None:
    calls = re.findall(r"build_app((?: \w+=[^\s`]+)*)", page.read_text(encoding="utf-8"))
    assert {name for call in calls for name in re.findall(r"(\w+)=", call)} <= StreamArgs.model_fields.keys()

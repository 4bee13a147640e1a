# The commands that users and contributors need; `make help` lists them.
#
# Everything is installed into .venv once. The files .venv/.installed (run-time dependencies) and .venv/.installed-dev (those of
# tests and linting as well) are touched by each installation, so that make repeats it when pyproject.toml or constraints.txt change.

VENV := .venv
BIN := $(VENV)/bin
BOOT := $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell command -v $(name) 2>/dev/null)))
OUTPUT ?= runs/demo
PYTEST ?=

export DO_NOT_TRACK := 1
export RAY_USAGE_STATS_ENABLED ?= 0
export MLFLOW_DISABLE_TELEMETRY ?= true
ifdef PYTHON
export PYTHON
endif

.DEFAULT_GOAL := help
.PHONY: help demo test lint format install install-dev preflight clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: install ## run the whole chain on synthetic heads or SOURCE=<folder of videos>; FROM_SCRATCH=1, OUTPUT=runs/demo
	@$(BIN)/python -m jobs.demo --output "$(OUTPUT)" $(if $(SOURCE),--source "$(SOURCE)") $(if $(filter-out 0,$(FROM_SCRATCH)),--from-scratch)

test: install-dev ## run all tests, or some: PYTEST="tests/portrait -k vae"
	@$(BIN)/python -m pytest $(PYTEST)

lint: install-dev ## run ruff, pyright, import-linter and codespell, as CI and pre-commit do
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/pyright

format: install-dev ## format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.installed ## create the environment in .venv

install-dev: $(VENV)/.installed-dev

preflight:
	@test -n "$(BOOT)" || { echo "No python3 found: install Python 3.11 or newer first." >&2; exit 1; }
	@$(BOOT) jobs/preflight.py --environment $(VENV) >/dev/null

$(VENV)/.installed: pyproject.toml constraints.txt | preflight
	@test -x $(BIN)/python || { \
	  python=$$($(BOOT) jobs/preflight.py --environment $(VENV)) && \
	  echo "creating $(VENV) with $$python" && "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@

clean: ## remove the environment, caches and everything in runs/
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

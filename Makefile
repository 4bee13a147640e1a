# The few commands that a user and a contributor need; `make help` lists them.
#
# Everything is installed into .venv and reused: .venv/.installed (what runs need) and .venv/.installed-dev (what checks need
# besides) are as old as the last installation, and younger than the two files that say what to install.

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

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: install ## the whole chain on synthetic heads, or on SOURCE=<folder of videos>; FROM_SCRATCH=1, OUTPUT=runs/demo
	@$(BIN)/python -m jobs.demo --output "$(OUTPUT)" $(if $(SOURCE),--source "$(SOURCE)") $(if $(filter-out 0,$(FROM_SCRATCH)),--from-scratch)

test: install-dev ## all tests; PYTEST="tests/portrait -k vae" for some of them
	@$(BIN)/python -m pytest $(PYTEST)

lint: install-dev ## ruff, pyright, import directions, spelling: what CI and pre-commit check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	$(BIN)/pyright

format: install-dev ## formats the code and mends what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.installed ## the environment in .venv

install-dev: $(VENV)/.installed-dev

preflight:
	@test -n "$(BOOT)" || { echo "This machine has no python3; install Python 3.11 or newer first." >&2; exit 1; }
	@$(BOOT) jobs/preflight.py --environment $(VENV) >/dev/null

$(VENV)/.installed: pyproject.toml constraints.txt | preflight
	@test -x $(BIN)/python || { \
	  python=$$($(BOOT) jobs/preflight.py --environment $(VENV)) && \
	  echo "making $(VENV) with $$python" && "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@

clean: ## removes the environment, caches and what runs left in runs/
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

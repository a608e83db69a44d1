# Headrace. `make demo` and `make test` set everything up by themselves; `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The first interpreter that really runs and is 3.11 or 3.12 (a pyenv shim may exist and still fail).
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,13))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NAME ?=

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Headrace needs Python 3.11 or 3.12 on the PATH; found neither. Set PYTHON=/path/to/python3.12." >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)"
	@$(BIN)/uv pip install --quiet --compile-bytecode --system-certs --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: help setup demo test unit lint format bench up lock clean
help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Create .venv from the lock file

demo: $(STAMP) ## Simulate a shop and run the main job end to end, without any server
	@$(BIN)/headrace demo

test: lint ## Lint, then the whole test suite
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

unit: $(STAMP) ## Only the unit tests
	@$(BIN)/python -m pytest tests/unit

lint: $(STAMP) ## ruff, mypy --strict, import-linter, prose
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.support.prose

format: $(STAMP) ## Let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Benchmarks with their baselines; NAME=rank_100 runs one
	@$(BIN)/python -m benchmarks $(NAME)

up: $(STAMP) ## Serving, the stream and Dagster's UI together; Ctrl-C stops all three
	@$(BIN)/headrace up

lock: $(STAMP) ## Resolve the lock again
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-strip-extras --generate-hashes \
		--group dev pyproject.toml --output-file requirements.lock

clean: ## Remove what was made at run time (not .venv)
	@rm -rf var .mypy_cache .ruff_cache .pytest_cache .hypothesis

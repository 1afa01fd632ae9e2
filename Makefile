# Each target does all its own set-up; `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test soak check bench crowds lock clean

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.lock
MINUTES ?= 10

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv with the locked dependencies and Interlock itself

demo: setup ## run the software-delivery team on a repository with a real bug, with a scripted model
	$(BIN)/interlock demo

test: setup ## run all tests: unit, simulation, integration, acceptance
	$(BIN)/python -m pytest -n logical

soak: setup ## play storms of the simulation, other ones every time, for MINUTES=10
	$(BIN)/python tests/simulation/storming.py --minutes $(MINUTES)

check: setup ## lint, format and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## measure hops against plain Ray calls, how fast a kill and a check of contracts are, into benchmarks/*.json
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.contracts
	$(BIN)/python -m benchmarks.kills

crowds: setup ## measure the memory of 100,000 parked tasks and a restart with 10,000 live ones, into benchmarks/*.json
	$(BIN)/python -m benchmarks.parked
	$(BIN)/python -m benchmarks.restart

lock: setup ## resolve pyproject.toml anew into the lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --group dev \
		--custom-compile-command 'make lock' --no-emit-index-url --output-file $(LOCK) pyproject.toml

clean: ## remove all that make has made, .venv included
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: a change of pyproject.toml alone installs no dependency again.
$(VENV)/.locked: $(LOCK)
	@PYTHON=$$(sh requirements/find_python.sh) && $$PYTHON -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Every verb sets up what it needs in $(VENV); nothing has to be installed by hand but Python 3.11+, pip and make.
PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check
# The suite runs one thread per worker; more workers than cores only fight.
WORKERS ?= auto

.PHONY: help demo test test-slow lint format types check bench clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.core

demo: $(VENV)/.core  ## search and label a small collection with the bundled model; writes $(OUT)/index.html
	$(BIN)/perceptic demo --out $(OUT)

test: $(VENV)/.dev  ## the default suite: no network, no GPU
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev  ## long fuzzing, kill-and-resume, compilation and training runs
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow --timeout 3600

lint: $(VENV)/.dev  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev  ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## mypy strict
	$(BIN)/mypy

check: lint types test  ## everything that CI asks for but the demo

bench: $(VENV)/.dev  ## every benchmark, each against its peer (about half an hour)
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove what the verbs made
	rm -rf $(VENV) $(OUT) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Every target sets up what it needs in .venv; a stamp file there says what was installed for which pins.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -c constraints-remote.txt

.PHONY: help setup demo check test bench docs clean
.DEFAULT_GOAL := help

help:  ## show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-vision: pyproject.toml constraints.txt constraints-remote.txt | $(BIN)/python
	$(INSTALL) -e ".[vision]"
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml constraints.txt constraints-remote.txt | $(BIN)/python
	$(INSTALL) -e ".[all,dev]"
	@touch $@ $(VENV)/.stamp-vision

setup: $(VENV)/.stamp-dev  ## install lightkit (editable) with all extras and the tools into .venv

demo: $(VENV)/.stamp-vision  ## train and test a small CNN on real handwritten digits
	$(BIN)/lightkit fit vision/digits --test

check: $(VENV)/.stamp-dev  ## lint (ruff), types (mypy), structure (benchmarks/structure)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python benchmarks/structure --check

test: $(VENV)/.stamp-dev  ## the whole test suite
	$(BIN)/python -m pytest -q

bench: $(VENV)/.stamp-dev  ## benchmarks, as ratios to a hand-written loop
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/.stamp-dev  ## regenerate the generated pages of docs/
	$(BIN)/python docs/build.py

clean:  ## remove build outputs and caches (never runs/ or .venv)
	rm -rf build dist *.egg-info docs/_build .mypy_cache .ruff_cache .pytest_cache
	find lightkit recipes tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# One command each; every target sets up what it needs (Python 3.11 with venv, nothing else).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# first and alone: one pinned build, whichever is in the venv already (PyPI's brings the CUDA libraries, gigabytes)
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: demo test lint benchmark soak clean

demo: $(VENV)/.installed            ## send a simulated patient's head CT through a node and show its results
	$(BIN)/ichnode demo

test: $(VENV)/.installed-dev lint   ## everything that CI runs
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/.installed-dev   ## ratios to the peers that are installed
	$(BIN)/python -m tests.benchmarks

soak: $(VENV)/.installed-dev        ## hours: kills, crowds, full disks and bad company, counted (SOAK_... in tests/soak/__main__.py)
	$(BIN)/python -m tests.soak

$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,training]'
	touch $@

clean:
	rm -rf $(VENV) ichnode-demo

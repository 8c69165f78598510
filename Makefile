# One command each; every target sets up what it needs (Python 3.11 with venv, nothing else).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# first and alone: one pinned build, whichever is in the venv already (PyPI's brings the CUDA libraries, gigabytes)
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: demo test lint docs benchmark clean

demo: $(VENV)/.installed            ## send a simulated patient's head CT through a node and show its results
	$(BIN)/ichnode demo

test: $(VENV)/.installed-dev lint   ## everything that CI runs
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev        ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmark: $(VENV)/.installed-dev   ## ratios to the peers that are installed
	$(BIN)/python -m tests.benchmarks

$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,training]'
	touch $@

clean:
	rm -rf $(VENV) ichnode-demo site

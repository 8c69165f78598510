# One command each; every target sets up what it needs (Python 3.11 with venv, nothing else).

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
WHEELHOUSE := wheelhouse
PREFIX := /opt/ichnode/.venv
# first and alone: one pinned build, whichever is in the venv already (PyPI's brings the CUDA libraries, gigabytes)
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)

# the tests start nodes by the hundred: their modules are compiled once
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -p no:cacheprovider --durations 25
# tests/models makes both halves of the suite equally long
PEERS := tests/acceptance tests/benchmarks tests/fuzz tests/hostile tests/soak tests/models

.PHONY: demo test test-peers test-parts lint docs benchmark soak wheelhouse install-offline clean

demo: $(VENV)/.installed            ## send a simulated patient's head CT through a node and show its results
	$(BIN)/ichnode demo

test: $(VENV)/.installed-dev        ## everything that CI runs; what waits for nodes and peers beside what computes
	$(MAKE) --no-print-directory --keep-going --jobs 3 lint test-peers test-parts

test-peers: $(VENV)/.installed-dev
	$(PYTEST) $(PEERS)

test-parts: $(VENV)/.installed-dev
	$(PYTEST) $(PEERS:%=--ignore %)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev        ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

benchmark: $(VENV)/.installed-dev   ## ratios to the peers that are installed
	$(BIN)/python -m tests.benchmarks

soak: $(VENV)/.installed-dev        ## hours: kills, crowds, full disks and bad company, counted (SOAK_... in tests/soak/__main__.py)
	$(BIN)/python -m tests.soak

# all that a machine without internet needs: TORCH_INDEX=https://download.pytorch.org/whl/cpu for the small torch
wheelhouse:                         ## ichnode and everything it needs as wheels, with their SHA-256
	rm -rf $(WHEELHOUSE) && mkdir -p $(WHEELHOUSE)
	test -d build/venv || $(PYTHON) -m venv build/venv
	build/venv/bin/pip wheel --quiet --no-deps --wheel-dir $(WHEELHOUSE) $(TORCH_INDEX:%=--index-url %) $(TORCH)
	build/venv/bin/pip wheel --quiet --constraint constraints.txt --find-links $(WHEELHOUSE) --wheel-dir $(WHEELHOUSE) .
	cd $(WHEELHOUSE) && sha256sum *.whl > SHA256SUMS

install-offline:                    ## from a wheelhouse, into PREFIX
	cd $(WHEELHOUSE) && sha256sum --check --quiet SHA256SUMS
	test -d $(PREFIX) || $(PYTHON) -m venv $(PREFIX)
	$(PREFIX)/bin/pip install --quiet --no-index --find-links $(WHEELHOUSE) ichnode

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
	rm -rf $(VENV) ichnode-demo site build wheelhouse

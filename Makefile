# Each of `make clip` and `make test` is enough by itself on a machine with Python >= 3.11, make and a package index.
#   TORCH=2.13.0   another build of torch: a version, a whole requirement ("torch>=2.11") or a wheel's address
#   PYTHON=...     another interpreter         UV=  (empty) pip although uv is there
#   PROMPT=... OUT=...   for `make clip`       JOBS=...  processes for the tests

.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c '$(ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
UV ?= $(shell command -v uv 2>/dev/null)
TORCH ?=
PROMPT ?= a red balloon rising over the sea at sunset
OUT ?= clip.mp4
JOBS ?= 2

# A bare version becomes a requirement; anything else is one already.
VERSION := $(shell printf '%s' '$(TORCH)' | grep -E '^[0-9][0-9A-Za-z.+]*$$')
TORCH_WANTED := $(if $(VERSION),torch==$(VERSION),$(TORCH))
INSTALL = $(if $(UV),"$(UV)" pip install --python $(BIN)/python,$(BIN)/python -m pip install)
TEST = $(BIN)/python -m pytest -q

# One thread a process: the tests run in $(JOBS) processes.
test test-slow check docs: export OMP_NUM_THREADS = 1
# uv then finds the same local wheels as pip does.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: help clip setup check test test-slow budget gpu bench docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

clip: $(VENV)/installed  ## install, make one clip from words on this machine, print where it lies
	@$(BIN)/kinescribe generate "$(PROMPT)" -o "$(OUT)" --overwrite
	@$(BIN)/python -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).resolve())' "$(OUT)"

setup: $(VENV)/installed-dev  ## install everything that work on the code needs

check: $(VENV)/installed-dev  ## format, lint, types, architecture, generated pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TEST) tests/test_architecture.py tests/test_readme.py

test: $(VENV)/installed-dev  ## every CPU test but the slow tier
	$(TEST) -n $(JOBS) --dist loadfile -m "not slow and not gpu"

test-slow: $(VENV)/installed-dev  ## the slow tier: peers, wheel in a bare environment, clips, browser
	$(TEST) -n $(JOBS) --dist loadfile -m "slow and not gpu"

budget: $(VENV)/installed-dev  ## CPU seconds of `import kinescribe` and `kinescribe --help`
	$(TEST) -s tests/test_budget.py

# Without the checks of annotations: they rewrite functions, which kernels do not survive.
gpu: $(VENV)/installed-dev  ## tests that need a CUDA device
	$(TEST) -o addopts="--import-mode=importlib --strict-markers" -m gpu

bench: $(VENV)/installed-dev  ## time this machine, ours alone and beside diffusers; figures go to runs/
	@mkdir -p runs
	$(BIN)/kinescribe bench --profile -o runs/bench.json
	$(BIN)/python benchmarks/cpu_pair.py --out runs/cpu_pair.json

docs: $(VENV)/installed-dev  ## write the generated tables of the pages and run every snippet
	$(BIN)/python docs/tables.py
	$(TEST) tests/docs -m "not gpu"

clean:  ## remove the virtual environment and what tools leave behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: install one, or make PYTHON=/path/to/python3"; exit 1; }
	@$(if $(UV),"$(UV)" venv --quiet --python "$$(command -v $(PYTHON))" $(VENV),$(PYTHON) -m venv $(VENV)) \
	|| { rm -rf $(VENV); echo "no virtual environment could be made: install uv, or your system's python3-venv"; exit 1; }

# The choice of torch is part of the stamp: another TORCH installs again, the same one does not.
$(VENV)/torch: $(BIN)/python always
	@printf '%s\n' "$(TORCH_WANTED)" | cmp -s - $@ || printf '%s\n' "$(TORCH_WANTED)" > $@

$(VENV)/installed: pyproject.toml $(VENV)/torch
	$(INSTALL) $(if $(TORCH_WANTED),"$(TORCH_WANTED)") -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/torch
	$(INSTALL) $(if $(TORCH_WANTED),"$(TORCH_WANTED)") -e ".[dev]"
	@touch $@ $(VENV)/installed

.PHONY: always
always:

# Every task by its name: `make image`, `make qemu BOOT=disk`, `make linux:menuconfig` run `doit` in a virtual
# environment that is set up first. Only the work on kiln itself has targets of its own.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
DEV := $(VENV)/.dev
# What `make` was given as NAME=value goes to doit as it is.
VARIABLES = $(filter-out PYTHON=% PYTEST=% BENCH=%,$(MAKEOVERRIDES))

.PHONY: image test check format bench clean-venv
.DEFAULT_GOAL := image

image: $(READY)
	@$(VENV)/bin/doit image $(VARIABLES)

# All tests: lint, types, units, real builds in the sandbox, and the board booted by every road. Under emulation, a machine
# that boots takes one processor, whoever else waits.
test: check
	@$(VENV)/bin/pytest -n 2 --dist loadfile -m "sandbox or boot" $(PYTEST)

check: $(DEV)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@for recipe in packages/*-*/recipe.py; do $(VENV)/bin/mypy --no-error-summary $$recipe || exit; done
	@$(VENV)/bin/pytest -q -n 3 -m "not sandbox and not boot" $(PYTEST)

format: $(DEV)
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .

bench: $(DEV)
	@$(VENV)/bin/python -m tests.bench $(BENCH)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kiln needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing; on Debian: apt install python3-venv"; exit 1; }
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV): $(READY)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

Makefile pyproject.toml: ;

%: $(READY)
	@$(VENV)/bin/doit $@ $(VARIABLES)

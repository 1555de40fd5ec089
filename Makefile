# Each target does its own set-up: it needs Python 3.11-3.13, make and a C compiler, nothing else.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev,interop,docs
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
# uv where it is there, which is quicker; pip otherwise.
INSTALLER := $(if $(shell command -v uv),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install)
INSTALL := $(INSTALLER) --quiet -c $(CONSTRAINTS)

.PHONY: demo test test-all test-oldest check docs install wheel-test clean

demo: $(DEMO_STAMP)
	$(BIN)/leadspan demo

test: install
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadscope

test-all: install
	$(BIN)/python -m pytest -q -n 2 --dist loadscope

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

# The site: open site/index.html, no server and no network needed.
docs: install
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src $(BIN)/python -m mkdocs build --strict
	@echo "Saved to site/index.html"

# The lower pins, in an environment of their own.
test-oldest:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt EXTRAS=dev

install: $(STAMP)

$(DEMO_STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) -e ".[report]"
	touch $@

$(STAMP): $(DEMO_STAMP)
	$(INSTALL) -e ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv .venv-oldest dist build site

# What a change must pass: .ci/run calls these targets. Start with a virtual environment and `make install`.
PYTHON ?= python
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help install format lint types docs commit-checks test test-fast wheel lowest clean

help:  ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 15

install:  ## Install this checkout in editable mode with all that development needs
	$(PYTHON) -m pip install -e ".[dev,docs]"

format:  ## Repair style and format the code
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint:  ## Check style, format and spelling
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m codespell_lib

# mypy does not follow the two mapped folders of an editable installation, so it reads the content of the wheel.
types: wheel  ## Check the types
	$(PYTHON) -m zipfile --extract dist/*.whl build/wheel
	cd build/wheel && $(PYTHON) -m mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache --package wm_agents

docs:  ## Build the documentation in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet --strict

commit-checks: lint types docs  ## All checks that run no test

test:  ## Run all tests
	$(PYTHON) -m pytest

test-fast:  ## Run the tests without the slow ones: under two minutes
	$(PYTHON) -m pytest -m "not slow"

wheel:  ## Build the wheel in dist/
	rm -rf build dist
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

lowest: wheel  ## Test with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv --upgrade-deps build/lowest
	build/lowest/bin/pip install --quiet --constraint .ci/lowest.txt "$$(echo dist/*.whl)[test]"
	build/lowest/bin/pip check
	build/lowest/bin/wm-agents doctor
	build/lowest/bin/pytest tests/project/test_dependencies.py

clean:  ## Remove what the other targets wrote
	rm -rf build dist site

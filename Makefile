# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    ?= runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-browser lint type check bench clean

help: ## List the tasks
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON) found: install Python 3.11 or newer, or say make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into $(VENV) (a minute or two, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP) ## Create .venv with everything that the project needs

demo: $(STAMP) ## Evolve an optimizer (3 to 4 minutes on two cores), export and judge it
	@$(BIN)/python -m evo demo $(RUN)

test: $(STAMP) ## Run the core test suite
	@$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/harness/test_submission.py
	@$(BIN)/python -m pytest tests/harness/test_submission.py  # alone: it counts the processes that are left behind

test-slow: $(STAMP) ## Run the long crash and soak tests
	@$(BIN)/python -m pytest -m 'slow and not gpu'

test-browser: $(STAMP) ## Run the tests of the page in Chromium
	@$(BIN)/python -m pytest -m 'browser and not slow'

lint: $(STAMP) ## Check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(STAMP) ## Check types
	@$(BIN)/pyright

check: lint type test ## Everything that CI checks

bench: $(STAMP) ## Measure training throughput on this CPU
	@$(BIN)/python benchmarks/throughput.py

clean: ## Remove .venv, caches and what campaigns made (asks for nothing, keeps recipes)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build *.egg-info runs/*/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

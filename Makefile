# `make search` and `make test` do all the set-up on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help search test check slow browser clean
help:
	@echo "make search  set up, then tune and compare three losses on the digits that ship with scikit-learn"
	@echo "make test    set up, then run the tests"
	@echo "make check   set up, then lint, format check and types"
	@echo "make slow    set up, then run the tests marked slow or cluster"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

search: $(INSTALLED)
	$(BIN)/python tune/run_search.py --dataset digits --trials 8 --max-epochs 12 --confirm-seeds 5

test: $(INSTALLED) browser
	$(BIN)/python -m pytest

slow: $(INSTALLED) browser
	$(BIN)/python -m pytest -m "slow or cluster"

# Without a browser the tests of the pages are skipped, and say so.
browser: $(INSTALLED)
	@.ci/browser $(BIN)/python || echo "no browser could be installed: the tests of the pages will be skipped"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info

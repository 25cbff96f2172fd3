# `make search` and `make test` do all the set-up on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
COMPOSE ?= docker compose
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help search test check slow browser postgres stack clean
help:
	@echo "make search  set up, then tune and compare three losses on the digits that ship with scikit-learn"
	@echo "make test    set up, then run the tests"
	@echo "make check   set up, then lint, format check and types"
	@echo "make slow    set up, then run the tests marked slow or cluster"
	@echo "make stack   build the image, then start Ray, PostgreSQL and the live page as containers"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

search: $(INSTALLED)
	$(BIN)/python tune/run_search.py --dataset digits --trials 8 --max-epochs 12 --confirm-seeds 5

test: $(INSTALLED) browser
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

slow: $(INSTALLED) browser postgres
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "slow or cluster"

# Without a browser the tests of the pages are skipped, and say so.
browser: $(INSTALLED)
	@.ci/browser $(BIN)/python || echo "no browser could be installed: the tests of the pages will be skipped"

# Without a server the tests of a team's database are skipped, and say so.
postgres:
	@.ci/postgres || echo "no PostgreSQL server could be installed: the tests of a team's database will be skipped"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile

# Results say from what revision the code in the image is: an image has no git.
stack:
	docker/prepare.sh
	cd docker && ADALOSS_REVISION=$$(git describe --always --dirty --abbrev=40 --exclude='*' || true) \
		$(COMPOSE) up --detach --build

clean:
	rm -rf $(VENV) build *.egg-info

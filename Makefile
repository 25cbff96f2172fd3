# `make search` and `make test` do all the set-up on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
COMPOSE ?= docker compose
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
# Sized so that a laptop comes to a verdict within minutes; FULL=1 is the model and the budget of the other data sets.
FIRST_LOOK := --trials 6 --max-epochs 16 --candidates 2 --candidate-seeds 1 --confirm-seeds 16 --precision float32
FULL_SIZE := --model ArcFaceCNN
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
PIP_INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: help search test check slow browser postgres stack clean
help:
	@echo "make search  set up, then tune and compare three losses on the digits that ship with scikit-learn: a first look"
	@echo "             of some minutes; with FULL=1 a larger model and the whole budget"
	@echo "make test    set up that and what tests need, then run the tests; with SLOW=1 the slow ones too"
	@echo "make check   set up likewise, then lint, format check and types"
	@echo "make slow    set up likewise, then run the tests marked slow or cluster"
	@echo "make stack   build the image, then start Ray, PostgreSQL and the live page as containers"

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	@echo "installing what a search needs into $(VENV), some minutes: 6.5 GB with PyPI's torch for Linux, of which 4.3 GB serve NVIDIA GPUs; about 2 GB with: make $(MAKECMDGOALS) PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) .
	@touch $@

# On top of it, what tests, linters and type checks need. A search does without.
$(INSTALLED_DEV): $(INSTALLED)
	@echo "installing what tests and checks need besides into $(VENV): about 0.5 GB"
	$(PIP_INSTALL) '.[dev]'
	@touch $@

search: $(INSTALLED)
	$(BIN)/python tune/run_search.py --dataset digits $(if $(FULL),$(FULL_SIZE),$(FIRST_LOOK))
	@$(if $(FULL),:,echo "that was a first look; with a larger model and the whole budget: make search FULL=1")

# With SLOW=1 the slow ones too, in one go: what all of them import is then imported once.
test: $(INSTALLED_DEV) browser $(if $(SLOW),postgres)
	$(PYTEST) $(if $(SLOW),-m "slow or not slow")

slow: $(INSTALLED_DEV) browser postgres
	$(PYTEST) -m "slow or cluster"

# Without a browser the tests of the pages are skipped, and say so.
browser: $(INSTALLED_DEV)
	@.ci/browser $(BIN)/python || echo "no browser could be installed: the tests of the pages will be skipped"

# Without a server the tests of a team's database are skipped, and say so.
postgres:
	@.ci/postgres || echo "no PostgreSQL server could be installed: the tests of a team's database will be skipped"

check: $(INSTALLED_DEV)
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

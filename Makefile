# Two commands: `make book` and `make test`. Both set up .venv from requirements.lock first, and skip that when nothing changed.

# An interpreter to use; without one the first of these that is recent enough.
PYTHON :=
PYTHONS = $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
VENV := .venv
BIN := $(VENV)/bin
BUILD := build
# RUN=0, as an argument or in the environment: build the site from the executed chapters as they are.
RUN ?= 1
# UPGRADE=1: let `make lock` take newer versions.
UPGRADE := 0

SITE = $(BIN)/jupyter-book build book --config _config.yml --toc $(abspath _toc.yml) --path-output $(BUILD) --quiet
FRONT_PAGE = $(abspath $(BUILD))/_build/html/index.html

# The environment is as good as what it was made from: the lock, the package's metadata and the place it stands in.
STAMP = $(VENV)/installed-$(shell { cat requirements.lock pyproject.toml; pwd; } | cksum | tr ' ' '-')
SUPPORTED = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

.PHONY: book pdf test setup lock clean help

book: setup
ifeq ($(RUN),0)
	@$(BIN)/papers status --stale
else
	@$(BIN)/papers run --stale
endif
	@$(SITE) > /dev/null
	@echo "Front page: $(FRONT_PAGE)"

# All of the site on paper, printed by the machine's own Chromium.
pdf: book
	@$(BIN)/python -m shared.site.whole $(BUILD)/_build/html _toc.yml $(BUILD)/papers-rerun.pdf

test: setup
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

# uv installs the lock: it takes seconds where pip takes minutes. pip brings uv itself, at the version and hashes in the lock.
# The environment is made anew when its interpreter is gone or the checkout was moved, since its scripts hold its path.
setup:
	@test -e $(STAMP) && $(BIN)/python -c '$(SUPPORTED)' && exit 0; \
	set -e; \
	if ! $(BIN)/python -c '$(SUPPORTED)' 2>/dev/null || ! grep -q ' $(CURDIR)/$(VENV)$$' $(VENV)/pyvenv.cfg; then \
	    for python in $(PYTHONS) ''; do \
	        if [ -n "$$python" ] && $$python -c '$(SUPPORTED)' 2>/dev/null; then break; fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "No Python 3.11, 3.12 or 3.13 with the venv module among: $(PYTHONS)." \
	             "Install one, or name it with 'make PYTHON=/path/to/python ...'." >&2; \
	        exit 1; \
	    fi; \
	    $$python -m venv --clear $(VENV); \
	fi; \
	echo "Setting up $(VENV) with $$($(BIN)/python --version) from requirements.lock"; \
	rm -f $(VENV)/installed-*; \
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.lock; \
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .; \
	touch $(STAMP)

# One file for every system and Python 3.11 to 3.13, the same versions on all of them, with hashes.
lock: setup
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --no-header --quiet $(if $(filter 1,$(UPGRADE)),--upgrade) --output-file requirements.lock

clean:
	rm -rf $(BUILD) .pytest_cache .ruff_cache

help:
	@echo "make book          set up, run the chapters that are stale, build the site"
	@echo "make book RUN=0    the same, without running chapters"
	@echo "make pdf           make book, then print it to one PDF (needs Chromium)"
	@echo "make test          set up, run every test and every chapter at smoke scale"
	@echo "make lock          resolve pyproject.toml into requirements.lock (UPGRADE=1: newer versions)"
	@echo "make clean         remove what was built"

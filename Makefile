# What people type. Everything runs in .venv, which is remade when requirements.lock changes.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TORCH := .venv/.torch
RECIPE ?= jobs/recipes/flights.yaml

# Tests that share no cluster run in two processes, a file in one of them; of the others, each tier is in one process.
UNITS = $(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/contracts tests/golden mlsys

# What a search by the clock finds depends on what else the machine does: its tests are alone.
CLOCK := tests/e2e/test_flights.py

# Containers often forbid bytecode; every Ray worker would then compile all of Ray again (about 3x slower to start).
unexport PYTHONDONTWRITEBYTECODE

# Wheels of some hundred megabytes on a slow line; uv gives up after 30 s without a byte.
export UV_HTTP_TIMEOUT ?= 300

# Extras that requirements.lock holds: all but torch, whose locked requirements would be those of its build for CUDA.
LOCKED := demo redis lake excel catboost tracing bench

# uv does not read pip's configuration: a mirror that pip was told of is passed on.
UV_INSTALL = index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
    $${index:+env UV_DEFAULT_INDEX="$$index"} $(BIN)/python -m uv pip install --python $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help demo down env torch test unit check format docs picture lock bench size clean

help: ## What can be asked of this file
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: $(STAMP) ## The nine steps on 336,776 flights, with a live endpoint at the end
	$(BIN)/mlsys run $(RECIPE)

down: $(STAMP) ## Stop what the demo started
	$(BIN)/mlsys down

env: $(STAMP) ## Only build .venv from requirements.lock

torch: $(TORCH) ## PyTorch in .venv, for `network` and `convolution`: some gigabytes where pip knows no build for CPUs

test: $(STAMP) $(TORCH) ## All tests, the slowest named at the end
	$(UNITS) tests/repo
	$(BIN)/python -m pytest -n 2 --dist loadscope tests/cluster tests/e2e --ignore $(CLOCK)
	$(BIN)/python -m pytest $(CLOCK)

unit: $(STAMP) $(TORCH) ## The tests that need no Ray
	$(UNITS)

check: $(STAMP) ## Format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Rewrite the files as `make check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

docs: $(STAMP) ## Write the generated pages: docs/recipe.md, docs/metrics.md
	$(BIN)/python tests/support/reference_pages.py

picture: $(STAMP) ## Draw the pictures in docs/: of a report and of the console (needs chromium)
	$(BIN)/python tests/support/picture.py

lock: | $(BIN)/uv ## Remake requirements.lock from pyproject.toml (UPGRADE=1 takes newer versions)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	    $(LOCKED:%=--extra %) --group dev $(if $(UPGRADE),--upgrade) pyproject.toml -o requirements.lock

size: ## Files, lines, lengths of functions and circles of imports
	@$(PYTHON) tests/support/house.py

bench: $(STAMP) ## Run every benchmark, one after another; those that need tables want DATA=FOLDER
	@set -e; for file in $$(grep -l __main__ benchmarks/*.py | grep -v -e quality_peers -e serve_peers -e serve_frameworks); do \
	    data=; ! grep -q '"--data".*required=True' "$$file" || data="$(DATA)"; \
	    if grep -q '"--data".*required=True' "$$file" && [ -z "$$data" ]; then \
	        echo "== $$file is left out: it needs DATA=FOLDER"; continue; fi; \
	    echo "== $$file"; $(BIN)/python "$$file" $${data:+--data "$$data"}; done

clean: ## Remove .venv and caches; the store (.mlsys) stays
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find mlsys jobs tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): requirements.lock | $(BIN)/uv
	$(UV_INSTALL) --compile-bytecode -r requirements.lock
	$(UV_INSTALL) --no-deps -e .
	@touch $@

# pip and not uv: it alone looks where the machine's settings say that wheels lie.
$(TORCH): requirements-torch.lock $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-torch.lock
	@touch $@

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	    echo "mlsys needs Python 3.11, 3.12 or 3.13; $(PYTHON) is: $$($(PYTHON) --version 2>&1)" >&2; \
	    echo "  hint: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    "$$(grep '^uv==' requirements.lock 2>/dev/null || echo uv)"

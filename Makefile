# Everything goes through here: `make` shows what there is. Needs Python 3.11+ and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed

# Libraries that would phone home are told not to.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := False
export RAY_USAGE_STATS_ENABLED := 0
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types check-layers unit test-slow test-e2e bench docker-check golden schema format lock clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Give another: make PYTHON=python3.12 demo"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements.lock names (a few minutes, 6 GB, the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## Moderate 300 bundled images for real: offline, on the CPU, about a minute
	@$(BIN)/moderate demo

test: lint types check-layers unit ## Lint, type-check and test

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@$(BIN)/mypy

check-layers: install
	@$(BIN)/lint-imports --no-cache

unit: install
	@$(BIN)/pytest -m "not slow" --numprocesses 3 --dist loadfile

test-slow: install ## The tests that take minutes
	@$(BIN)/pytest -m "slow and not e2e"

test-e2e: install ## The whole product as processes: PostgreSQL, Prefect server and worker, two Ray nodes, S3; then their failures
	@$(BIN)/pytest -m e2e

bench: install ## Measure speed beside Ray Data, boto3, Pillow and a plain loop; 15 minutes; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

docker-check: install ## Lint, build and run the image without a container engine (root, buildah and debootstrap; half an hour)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docker/check.sh

golden: install ## Refresh the golden files of messages; read the difference before you commit it
	@mkdir -p tests/golden && REFRESH_GOLDEN=1 $(BIN)/pytest -q tests/policy/test_policy_loading.py tests/results/test_schemas.py -k golden

schema: install ## Renew what is generated: policies/policy.schema.json and docs/data-dictionary.md
	@$(BIN)/moderate policy schema > policies/policy.schema.json
	@$(BIN)/moderate results dictionary > docs/data-dictionary.md

format: install ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: install ## Renew requirements.lock from pyproject.toml
	@$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
		--quiet --upgrade pyproject.toml --group dev -o requirements.lock

clean: ## Remove the environment and everything that was made
	rm -rf $(VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

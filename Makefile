# The one entry point: `make` lists the targets. Needs Python 3.11+ and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
STAMP := $(VENV)/.installed

# Turn off telemetry of libraries.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := False
export RAY_USAGE_STATS_ENABLED := 0
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo studio test lint types check-layers unit test-slow test-e2e bench docker-check golden schema format lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 demo"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the libraries of requirements.lock (the first time: a few minutes, 6 GB)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install ## Moderate 300 bundled images for real: offline, on the CPU, about a minute
	@$(BIN)/moderate demo

studio: install ## Open the studio, a local page, on the demo's results; runs the demo first if there are none
	@test -d demo-output/runs || $(BIN)/moderate demo
	@$(BIN)/moderate studio --results demo-output --policy moderation/demo/policy.yaml

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

test-slow: install ## Run the tests that take minutes
	@$(BIN)/pytest -m "slow and not e2e"

test-e2e: install ## Run the whole product as processes (PostgreSQL, Prefect server and worker, two Ray nodes, S3), and make them fail
	@$(BIN)/pytest -m e2e

bench: install ## Measure speed against Ray Data, boto3, Pillow and a plain loop; 15 minutes; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

docker-check: install ## Lint, build and run the image without a container engine (root, buildah and debootstrap; half an hour)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docker/check.sh

golden: install ## Refresh the golden files of messages; read the diff before you commit it
	@mkdir -p tests/golden && REFRESH_GOLDEN=1 $(BIN)/pytest -q tests/policy/test_policy_loading.py tests/results/test_schemas.py -k golden

schema: install ## Generate the schemas in policies/ and docs/data-dictionary.md
	@$(BIN)/moderate policy schema > policies/policy.schema.json
	@$(BIN)/moderate queues schema > policies/queues.schema.json
	@$(BIN)/moderate actions schema > policies/actions.schema.json
	@$(BIN)/moderate results dictionary > docs/data-dictionary.md

format: install ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: install ## Update requirements.lock from pyproject.toml
	@$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
		--quiet --upgrade pyproject.toml --group dev -o requirements.lock

clean: ## Remove the environment and everything that was generated
	rm -rf $(VENV) demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

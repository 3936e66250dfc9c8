# Two commands on a fresh machine: `make demo` runs the whole product once, `make test` its tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
IMAGES ?=
DEMO   ?=

.DEFAULT_GOAL := help
# Three workers on two cores: a test waits for a server nearly a third of its time.
WORKERS ?= 3
# Python keeps what it compiled, whatever the environment says: pytest compiles every test anew in each
# of its processes otherwise, 9 seconds of processor time each.
export PYTHONDONTWRITEBYTECODE =
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
.PHONY: audit docs help setup demo test test-all test-long test-fast soak coverage check lock deploy env-example clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv, in the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev,docs]'
	@touch $@

demo: $(STAMP) ## Scan a small DAM on real servers, end to end; IMAGES=folder for your own pictures
	$(BIN)/dam-dedup demo $(if $(IMAGES),--images '$(IMAGES)') $(DEMO)

test: $(STAMP) ## What to run after every change: minutes
	$(PYTEST)

test-fast: test

test-all: test test-long ## And what takes longer: kills, crashes, all of the deployed flows

test-long: WORKERS = 2
test-long: $(STAMP)
	$(PYTEST) -m 'long and not soak'

soak: WORKERS = 2
soak: $(STAMP) ## What takes hours; put its figures into docs/testing.md
	$(PYTEST) -m soak -s

coverage: $(STAMP) ## The lines that test-all runs
	$(PYTEST) -m 'not soak' --cov --cov-report=term --durations=20

check: $(STAMP) ## Linters, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

docs: $(STAMP) ## Build the documentation site into var/site, with every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

deploy: $(STAMP) ## Create work pool and deployments on the server of PREFECT_API_URL
	$(BIN)/dam-dedup deploy

lock: ## Resolve the newest allowed versions anew into constraints.txt
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet -e '.[demo,dev,docs]'
	$(VENV)/lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

audit: ## Known weaknesses of the locked versions, and an SBOM (var/sbom.json)
	$(PYTHON) -m venv $(VENV)/audit && mkdir -p var
	$(VENV)/audit/bin/pip install --quiet pip-audit==2.10.1 cyclonedx-bom==7.5.0
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt
	$(VENV)/audit/bin/cyclonedx-py requirements --pyproject pyproject.toml --of JSON -o var/sbom.json constraints.txt

env-example: $(STAMP) ## Write .env.example anew from the settings
	$(BIN)/dam-dedup settings > .env.example

clean: ## Remove what the demo and the tests left
	rm -rf var .pytest_cache .mypy_cache .ruff_cache .hypothesis

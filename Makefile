# One command a job: `make help` lists them. Each target sets up all it needs in .venv first.
.DEFAULT_GOAL := help
.PHONY: help demo local test soak conformance litellm lint format bench bench-hooks bench-month chaos exceptions-check \
  reconcile-check focus-validator browser statement-picture up build constraints refreeze clean
SHELL := /bin/bash
ARGS ?=
CALLS ?= 2000
TEST_PROCESSES ?= 3
VENV := .venv
BIN := $(VENV)/bin
LITELLM_VENV := .venv-litellm
FOCUS_VENV := .venv-focus
UV ?= uv

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  Options go into ARGS, e.g. make demo ARGS=--json, make test ARGS="tests/unit -k partition"'

demo: $(VENV)/installed ## Run the whole system on a real trace and print a statement (ARGS=--json for one line)
	@$(BIN)/gatemeter demo $(ARGS)

local: $(VENV)/installed ## Keep the embedded system running for trying things, until Ctrl-C
	@$(BIN)/gatemeter local $(ARGS)

test: $(VENV)/installed $(LITELLM_VENV)/installed $(FOCUS_VENV)/installed browser ## Run unit, property and integration tests (needs Java 17 and Maven for Apache Kafka)
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(VENV)/installed ## Run properties and faults in their long form, with ten times the examples (hours)
	GATEMETER_SOAK=on $(BIN)/python -m pytest tests/property tests/faults tests/integration/auditing/test_audit_of_generated_logs.py $(ARGS)

conformance: $(VENV)/installed $(LITELLM_VENV)/installed ## Run every hook against every case and print the table that it writes to docs/hooks
	@GATEMETER_CONFORMANCE=write $(BIN)/python -m pytest --quiet tests/conformance $(ARGS) >&2
	@cat docs/hooks/conformance.md

litellm: $(VENV)/installed $(LITELLM_VENV)/installed ## Send 2,000 mixed calls through real LiteLLM proxies to ClickHouse (CALLS=)
	GATEMETER_LITELLM_CALLS=$(CALLS) $(BIN)/python -m pytest tests/conformance/test_litellm.py $(ARGS)

focus-validator: $(VENV)/installed $(FOCUS_VENV)/installed ## Hold a FOCUS file to FOCUS 1.2 (ARGS=FILE.csv)
	@$(BIN)/python tests/support/focus_validator.py $(ARGS)

browser: ## Install the browser that tests look at statements with, where it is missing (Debian, Ubuntu)
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	   if command -v $$name >/dev/null; then exit 0; fi; done; \
	 if ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ]; then \
	   echo 'gatemeter tests statements in Chromium: install chromium, or run make browser as root on Debian' >&2; exit 1; fi; \
	 echo 'Installing the browser that tests look at statements with…' >&2; \
	 { apt-get update && apt-get install --yes --no-install-recommends chromium-headless-shell fonts-dejavu-core; } >/dev/null

statement-picture: $(VENV)/installed browser ## Take the pictures of the statement in docs/ anew, from the demo's trace
	@$(BIN)/python tests/support/statement_picture.py $(ARGS)

lint: $(VENV)/installed ## Check style, types and the Compose file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

format: $(VENV)/installed ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed ## Measure the pipeline against its rivals on Apache Kafka (ARGS=--json for one line)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-hooks: $(VENV)/installed $(LITELLM_VENV)/installed ## Measure what each hook adds, with and without it in turn (ARGS="--json --minutes 10")
	@$(BIN)/python -m benchmarks.hooks $(ARGS)

bench-month: $(VENV)/installed ## Measure the end of a month of 1 and 10 million facts (ARGS="--rows 1000000 --json")
	@$(BIN)/python -m benchmarks.month $(ARGS)

reconcile-check: $(VENV)/installed ## Plant differences between facts and bills, and show which are found (ARGS=--json)
	@$(BIN)/python -m benchmarks.reconcile_check $(ARGS)

chaos: $(VENV)/installed ## Break the pipeline under load in every way we know, then count (ARGS="--minutes 5 --json")
	@$(BIN)/python -m chaos $(ARGS)

exceptions-check: $(VENV)/installed ## Plant exceptions of every kind in real traffic and print precision and recall (ARGS=--json)
	@$(BIN)/python -m benchmarks.exceptions_check $(ARGS)

up: ## Start the production shape with Docker Compose (see docs/operating.md)
	docker compose up --build --detach --wait $(ARGS)

build: $(VENV)/installed ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation $(ARGS)

PIN := env -u PIP_FIND_LINKS $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-find-links --no-annotate --no-header

constraints: ## Pin what is new, with hashes; ARGS=--upgrade pins all anew (needs uv and a package index)
	@cp constraints.txt constraints.txt.new
	@$(PIN) --extra dev $(ARGS) --output-file constraints.txt.new pyproject.toml >/dev/null
	@sed -i '1i # Every dependency of gatemeter[dev], pinned with hashes. Made by: make constraints' constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@cp constraints-litellm.txt constraints-litellm.txt.new
	@printf 'editables\nhatchling\n' | $(PIN) --extra litellm $(ARGS) --output-file constraints-litellm.txt.new pyproject.toml - >/dev/null
	@sed -i '1i # A LiteLLM proxy with gatemeter beside it, pinned with hashes. Made by: make constraints' constraints-litellm.txt.new
	@mv constraints-litellm.txt.new constraints-litellm.txt
	@touch constraints-focus.txt && cp constraints-focus.txt constraints-focus.txt.new
	@printf 'focus-validator==2.2.1\npyarrow<21\n' | $(subst 3.11,3.12,$(PIN)) $(ARGS) --output-file constraints-focus.txt.new - >/dev/null
	@sed -i '1i # The validator of FOCUS files, pinned with hashes. Made by: make constraints' constraints-focus.txt.new
	@mv constraints-focus.txt.new constraints-focus.txt

refreeze: $(VENV)/installed ## Take new digests of the contracts; before their release only
	$(BIN)/python tests/support/frozen.py

clean: ## Remove the virtual environment, caches and builds
	rm -rf $(VENV) $(LITELLM_VENV) $(FOCUS_VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

# What is pinned comes first, hash by hash; the project itself needs nothing but that.
$(VENV)/installed: constraints.txt pyproject.toml
	@for python in python3.11 python3.12 python3.13 python3; do \
	   if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; python=; done; \
	 if [ -z "$$python" ]; then echo 'gatemeter needs Python 3.11 or newer as python3' >&2; exit 1; fi; \
	 if [ ! -x $(BIN)/python ]; then echo "Creating $(VENV) with $$($$python --version)…" >&2; $$python -m venv $(VENV); fi
	@echo 'Installing the pinned dependencies into $(VENV)…' >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@

# LiteLLM pins much that gatemeter's own tools need otherwise, so its proxy lives in an environment of its own.
$(LITELLM_VENV)/installed: constraints-litellm.txt pyproject.toml $(VENV)/installed
	@if [ ! -x $(LITELLM_VENV)/bin/python ]; then $(BIN)/python -m venv $(LITELLM_VENV); fi
	@echo 'Installing the pinned LiteLLM proxy into $(LITELLM_VENV)…' >&2
	@$(LITELLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	   -r constraints-litellm.txt >&2
	@$(LITELLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@

# The validator pins much of what gatemeter needs otherwise. It asks for Python 3.12, for one expression only.
$(FOCUS_VENV)/installed: constraints-focus.txt tests/support/focus_validator.py $(VENV)/installed
	@if [ ! -x $(FOCUS_VENV)/bin/python ]; then $(BIN)/python -m venv $(FOCUS_VENV); fi
	@echo 'Installing the pinned validator of FOCUS files into $(FOCUS_VENV)…' >&2
	@$(FOCUS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	   --ignore-requires-python -r constraints-focus.txt >&2
	@$(BIN)/python tests/support/focus_validator.py --prepare $(FOCUS_VENV)
	@touch $@

# How Civicgate is started, tested and shipped. `make` alone lists what there is.
# Everything runs in .venv, which `deploy/setup` makes and keeps up to date; PYTHON=… chooses the interpreter for it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Compiled modules are kept, whatever the surroundings say: the tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE :=
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# Processes for the tests; they wait half of their time, so four pay on two cores.
JOBS ?= 4
# Watching which branches are taken makes the tests half as slow again: CI pays that, and `make coverage`.
COVERAGE := --cov --cov-report=term
COV ?= $(if $(CI),$(COVERAGE))
# What is tested; `make test T=tests/unit/mime` for one room.
T ?= tests
# How long each fuzzer runs.
FUZZ_SECONDS ?= 3600
BASE ?= python:3.13-slim-bookworm
IMAGE ?= civicgate:dev
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-annotate --no-config

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: run
run: setup ## start everything on this machine, send a dozen sample messages, stay up until Ctrl-C
	@exec $(BIN)/python -m deploy.dev.run $(ARGS)

.PHONY: test
test: setup ## all tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(COV) $(ARGS) $(T)

.PHONY: coverage
coverage: ## all tests, with a report of the lines and branches that they take (as in CI)
	@$(MAKE) test COV='$(COVERAGE)'

.PHONY: check
check: setup ## linters, types, layering, configuration and rule cases, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy gateway tests deploy $(wildcard bench/*.py bench/quality/*.py)
	$(BIN)/lint-imports
	$(BIN)/civicgate check
	$(BIN)/python -m pytest -q tests/unit/docs

.PHONY: bench
bench: setup ## measure this gateway beside Postfix, on this machine, one table
	@exec $(BIN)/python -m bench $(ARGS)

.PHONY: console-bench
console-bench: setup ## measure the console's pages with 100 and 10,000 held items, beside each other
	@exec $(BIN)/python -m bench.console $(ARGS)

.PHONY: fuzz
fuzz: setup ## fuzz the parsers and readers, FUZZ_SECONDS each (or ARGS='--minutes 2'), all at once
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --only-binary :all: 'atheris>=3.0'
	@exec $(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

.PHONY: kill
kill: setup ## kill -9 of any process while people decide, 300 rounds on either database; prints what came twice
	@CIVICGATE_ROUNDS=$(or $(ROUNDS),300) exec $(BIN)/python -m pytest -q -s tests/faults/test_kill_decisions.py $(ARGS)

.PHONY: kill-milter
kill-milter: setup ## kill -9 of the gateway behind a Postfix that asks it, 100 rounds under load (needs root, Postfix)
	@CIVICGATE_CAMPAIGN=1 exec $(BIN)/python -m pytest -q -s tests/faults/test_milter_kill.py $(ARGS)

.PHONY: quality
quality: setup ## measure how well information types are found, on four sets, beside presidio-analyzer
	@bench/quality/setup $(BIN)/python
	@exec .venv-quality/bin/python -m bench.quality $(ARGS)

.PHONY: setup
setup: ## install what is missing (done by run, test and check on their own)
	@deploy/setup

.PHONY: format
format: setup ## let ruff put the sources in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: setup ## choose the newest allowed version of every dependency again
	$(BIN)/uv $(COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(BIN)/uv $(COMPILE) --upgrade --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(BIN)/uv $(COMPILE) --upgrade --extra quality -c requirements.lock pyproject.toml -o requirements-quality.lock
	@echo "Locked. «make test» installs and tries them."

.PHONY: image
image: ## build the container image (docker, podman or buildah)
	@deploy/image $(BASE) $(IMAGE)

.PHONY: image-test
image-test: ## prove that the image builds, starts read-only and answers (needs root, buildah, debootstrap)
	@deploy/image-test

.PHONY: clean
clean: ## remove what was built and cached, and the demonstration's var/
	rm -rf $(VENV) .venv-quality .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist ./*.egg-info
	rm -rf var htmlcov .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

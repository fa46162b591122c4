# Each target sets up what it needs; `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
PYTEST := $(PY) -m pytest
SEEDS ?= 500
# Tests of integration and e2e mostly wait: this many workers share two processors well.
WORKERS ?= 3
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
export PYSWARM_SIM_SEEDS := $(SEEDS)
# Containers set it often: each process of a test would compile the modules of the tests again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup venv demo test unit sim mutants integration e2e nightly vm fresh helm attack chaos bench lint types imports proto check-proto check fmt clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what is missing: packages (as root) and .venv
	@scripts/setup

venv:
	@scripts/setup python

demo: setup ## Bring up three hosts on this machine, deploy, scale, kill a host, watch it heal
	@scripts/demo

test: export PYSWARM_LEFT_OUT := $(CURDIR)/build/left-out
test: setup fresh check-proto lint types imports unit sim helm integration e2e ## Everything that must pass, in rising order of cost
	@if [[ -s build/left-out ]]; then echo "Left out of this run:"; cat build/left-out; else echo "Nothing was left out."; fi

fresh:
	@mkdir -p build && rm -f build/left-out

check: check-proto lint types imports unit sim ## What needs no root: before every commit

unit: venv ## Pure code, milliseconds a test
	$(PYTEST) -n auto --dist loadfile tests/unit

sim: venv ## The simulator over SEEDS=500 seeds
	$(PYTEST) tests/sim

mutants: venv ## Put bugs into brain and task machine: each must fail a seed or a test (30 minutes)
	$(PY) -m tests.mutants

integration: setup ## Real etcd, killed, compacted and cut off
	$(PYTEST) $(SPREAD) tests/integration

e2e: setup ## Real containers on hosts made of network namespaces (root)
	$(PYTEST) $(SPREAD) -m "not alone and not nightly" tests/e2e
	$(PYTEST) -m "alone and not nightly" tests/e2e

helm: venv ## Lint and render the chart, check it against Kubernetes' schemas
	$(PYTEST) tests/helm

attack: setup ## Attack a fleet for ATTACK_S=180 seconds: hostile calls, streams, hosts and specs (root)
	$(PY) -m tests.attack --seconds $(or $(ATTACK_S),180)

chaos: setup ## Break a fleet for CHAOS_S=600 seconds: kills, pauses, cuts, power losses (root)
	$(PY) -m tests.chaos --seconds $(or $(CHAOS_S),600)

nightly: export SEEDS := $(or $(NIGHTLY_SEEDS),5000)
nightly: setup ## The long versions of what `test` samples, and `vm`: before a larger change is finished (root, 3 hours)
	@$(MAKE) sim
	$(PYTEST) -m nightly tests/e2e
	@$(MAKE) attack
	@$(MAKE) chaos
	@$(MAKE) mutants
	@$(MAKE) vm

vm: setup ## Under a Debian kernel of its own, emulated (root, an hour): IPsec, cgroup v2, NFS, CIFS, btrfs, and the demo where all is slow
	scripts/vm -o build/vm -- tests/vm/run

bench: setup ## Print the table of measured ratios
	$(PY) -m bench

lint: venv ## ruff: style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check --quiet . || { $(PY) -m ruff format --diff --quiet . | head -n 40; exit 1; }

fmt: venv ## Format, and mend what ruff can mend
	$(PY) -m ruff check --fix --quiet . || true
	$(PY) -m ruff format .

types: venv ## mypy --strict
	$(PY) -m mypy

imports: venv ## Layers and purity
	.venv/bin/lint-imports --no-logo

proto: venv ## Generate Python from proto/
	@scripts/proto

check-proto: venv ## Does the committed generated code match proto/?
	@scripts/proto --check

clean: ## Remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# SPDX-License-Identifier: GPL-3.0-or-later
# What people and CI call. Each target makes what it needs; the work is in tools/ and lab/.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:

# The lab and the stages run on any Python from 3.11 on, with nothing installed.
PYTHON := python3
export PYTHONUNBUFFERED := 1

# The release whose API server the tests without machines run on; empty: the lab's own.
KUBERNETES := $(PETSET_API_KUBERNETES)

# Words for ansible-playbook: make site ARGS='--check --diff'
ARGS :=
PLAY = ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/build/installed ANSIBLE_CALLBACK_RESULT_FORMAT=yaml \
	$(PYTHON) -m lab run -- $(CURDIR)/.venv/bin/ansible-playbook -e @$(CURDIR)/lab/site.yml

# $(call need,FILE): what is not written yet is said, not skipped.
need = @[ -e $(1) ] || { echo "make $@: $(1) is not there yet" >&2; exit 1; }

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

.PHONY: .venv
.venv:
	@$(PYTHON) -c 'from tools.stages import ensure_venv; ensure_venv()'

.PHONY: built
built: .venv
	@.venv/bin/python -m tools.gates build

.PHONY: gates
gates: .venv ## sanity, linters, types, documentation, changelog and build
	@.venv/bin/python -m tools.gates

.PHONY: unit
unit: .venv ## unit tests, in a minute
	@$(PYTHON) -m tools.stages unit

.PHONY: programs
programs: .venv ## unit tests that run whole programs: plays, the pets' start-up
	@$(PYTHON) -m tools.stages programs

.PHONY: api
api: .venv ## tests against a real API server, no machines (KUBERNETES=1.37: another release)
	@PETSET_API_KUBERNETES='$(KUBERNETES)' $(PYTHON) -m tools.stages api

.PHONY: playbooks
playbooks: .venv ## whole playbooks against a real API server, no machines (KUBERNETES=1.37 as well)
	@PETSET_API_KUBERNETES='$(KUBERNETES)' $(PYTHON) -m tools.stages playbooks

.PHONY: lab
lab: ## bring the lab up and show it: a real Kubernetes and an NFS server on this host
	$(call need,lab/__main__.py)
	$(PYTHON) -m lab doctor --fix
	$(PYTHON) -m lab up
	$(PYTHON) -m lab status

.PHONY: site
site: ## run the site playbook on the lab (ARGS='--check --diff' for a look only)
	$(call need,playbooks/site.yml)
	@$(MAKE) --no-print-directory lab built
	$(PLAY) stateful.petset.site $(ARGS)

.PHONY: status
status: ## show every pet of the lab in one table
	$(call need,playbooks/status.yml)
	@$(MAKE) --no-print-directory lab built
	$(PLAY) stateful.petset.status $(ARGS)

.PHONY: demo
demo: ## lab, site twice (the second changes nothing), status
	$(call need,playbooks/site.yml)
	$(call need,playbooks/status.yml)
	@$(MAKE) --no-print-directory lab built
	@$(PYTHON) -m tools.demo

.PHONY: test
test: ## everything: set-up, gates, unit, api, playbooks, servers, lab tests, scenarios, programs, cores
	@$(PYTHON) -m tools.stages

.PHONY: stories
stories: .venv ## the long stories on the lab: reported cases, a set's whole life, failover, drills
	@$(PYTHON) -m tools.stages stories

.PHONY: bench
bench: ## measure, side by side with the usual playbook, and write the figures to docs/
	$(call need,bench/__main__.py)
	@$(MAKE) --no-print-directory lab built
	@.venv/bin/python -m bench $(ARGS)

.PHONY: faults
faults: ## stage faults on the lab and check what clients saw
	$(call need,tests/robustness)
	@$(MAKE) --no-print-directory lab built
	@.venv/bin/python -m tests.robustness run --suite long $(ARGS)

.PHONY: clean
clean: ## take the lab down and remove what make made here (the caches stay)
	@if [ -e lab/__main__.py ]; then $(PYTHON) -m lab down; fi
	rm -rf build .venv .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

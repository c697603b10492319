# SPDX-License-Identifier: GPL-3.0-or-later
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

.PHONY: .venv
.venv:
	@ln -sfn "$$(tools/venv requirements/dev.lock 3.13 3.14 3.12)" .venv

.PHONY: unit
unit: .venv ## unit tests
	.venv/bin/pytest tests/unit

# Two commands: `make demo` sets up and bakes a model, `make test` sets up and passes the tests.
.DEFAULT_GOAL := help
SHELL := bash
VENV := .venv
PYTHON := $(VENV)/bin/python
HOME_OF_DEMO := $(CURDIR)/demo-home
APT := bubblewrap chromium
# Real servers, a real engine, and what pymeshlab links, for the tests: some 300 MB that nothing else needs.
TEST_APT := libgl1 libopengl0 postgresql radosgw ceph-mon ceph-osd ceph-common godot3-server

.PHONY: help demo test test-all check setup packages test-packages lock clean

help: ## What there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: setup ## Set up, generate a model, bake it, show what came of it; run it twice to see it unchanged
	@tools/demo "$(HOME_OF_DEMO)"

test: setup test-packages ## Set up, check the code, run the tests (short forms of the slow tiers)
	@$(MAKE) --no-print-directory check
	$(PYTHON) -m pytest -q

test-all: setup test-packages ## All tests, the slow tiers whole
	@$(MAKE) --no-print-directory check
	$(PYTHON) -m pytest -q --slow

check: ## ruff, mypy, import-linter
	@tools/check

setup: packages $(VENV)/.installed ## Virtual environment, npm packages and, as root, Debian packages

packages:
	@tools/packages $(APT)

test-packages:
	@tools/packages $(TEST_APT)

$(VENV)/.installed: pyproject.toml requirements-dev.lock compute/npm/package-lock.json
	@tools/install $(VENV)
	@touch $@

lock: ## Resolve the dependencies anew
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url -o requirements.lock pyproject.toml
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --group dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean: ## Remove what setup and the demo made
	rm -rf $(VENV) demo-home build dist *.egg-info .mypy_cache .tree .ruff_cache .pytest_cache .hypothesis

# `make` lists what there is to make. Everything happens in .venv; nothing else on the machine is touched but the
# caches of pip and of the workbench.

PYTHON  ?= python3
MODEL   ?= smollm2-135m-instruct-q4
WORKERS ?= 2
ARGS    ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup reproduce explore test browser lint docs results families faults bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables: PYTHON=$(PYTHON)  MODEL=$(MODEL)  WORKERS=$(WORKERS)  ARGS=\"more options of the command\""

setup: $(STAMP) ## create .venv and install the locked versions

# pip runs again whenever the wanted packages change, and after a set-up that was interrupted.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or say which: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1), and Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "No virtual environment could be made with '$(PYTHON)' (on Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,docs,explorer]'
	@touch $@

# Exit code 1 is an answer too: the claim is not supported by these numbers.
reproduce: $(STAMP) ## fetch the model and run the circuit-reuse study on it
	@$(BIN)/workbench models fetch $(MODEL)
	@$(BIN)/workbench reproduce circuit-reuse --model $(MODEL) $(ARGS) || { code=$$?; test $$code -eq 1 || exit $$code; }

explore: $(STAMP) ## fetch the model and start the explorer
	@$(BIN)/workbench models fetch $(MODEL)
	@$(BIN)/workbench explore --model $(MODEL) $(ARGS)

test: lint browser ## run the linters and the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

# Debian's packages; a browser that is there already is left as it is.
BROWSERS := chromium chromium-browser google-chrome
PACKAGES := chromium fonts-liberation

browser: ## check for Chromium, which the tests need; as root on Debian, install it
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium, which the browser tests drive ..."; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get -qq update && apt-get -qq install -y --no-install-recommends $(PACKAGES) >/dev/null && exit 0; \
	fi; \
	echo "The browser tests need Chromium. To install it: sudo apt-get install $(PACKAGES)"; exit 1

lint: $(STAMP) ## ruff, pyright and the import rules
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m tests.project.import_circles

docs: $(STAMP) ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html; with search: $(BIN)/python -m http.server --directory site, then http://localhost:8000"

results: $(STAMP) ## run every finding on the documentation's models (minutes each; current ones are skipped)
	@$(BIN)/python docs/build/results.py $(ARGS)

# ARGS="--only llama,gpt2" for some, ARGS=--fresh for all again. RANDOM_CASES=300 compares random models instead.
families: $(STAMP) ## measure the table of families (docs/families.json; an hour; measured ones are skipped)
	@$(BIN)/python -W ignore -m $(if $(RANDOM_CASES),tests.families.random_check --examples $(RANDOM_CASES),tests.families) $(ARGS)

faults: $(STAMP) ## kill the process that writes the cache at 300 random moments, and check the cache
	$(BIN)/python -m tests.faults.kill --rounds 300 $(ARGS)

bench: $(STAMP) browser ## time the engine and other packages (minutes)
	$(BIN)/python -m tests.benchmarks $(ARGS)

clean: ## remove .venv, build products and the tools' caches (results in runs/ stay)
	rm -rf $(VENV) build dist site .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

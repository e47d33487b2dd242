# Every target installs what it needs; `make` alone lists the targets.

# With CI=true the tests import the built wheel and never the source tree: the virtual environment
# is one of its own, and the tests run in a folder that holds everything but what the wheel contains.
ifeq ($(CI),true)
VENV := .venv-ci
INSTALLED := wheel
else
VENV := .venv
INSTALLED := setup
endif

BIN    := $(VENV)/bin
PIP     = $(@D)/bin/python -m pip -qq --disable-pip-version-check
PORT   ?= 5000
# What pytest is given, as in: make pytest ARGS="-k relay -x"
ARGS   ?=
# More than the cores: many tests wait for a browser, a server or another process.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)))

# The first Python that is new enough. Another one: make setup PYTHON=/path/to/python
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$name" && break; done)

TYPED := _flask_signals_kit_pytest.py flask_signals_kit tests $(wildcard example_app benchmarks)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The steps of `make test` print in order and end with pytest's closing line, with -j, too.
.NOTPARALLEL:
.PHONY: help setup demo demo-celery test lint types imports wheel docs oldest matrix flask-head pytest coverage faults \
	tree bench format constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- environments --------------------------------------------------------------------------------

# The stamp is written last, so that an incomplete environment is made again.
.venv/.created .venv-ci/.created:
	@test -n "$(PYTHON)" || { \
		echo "No Python >= 3.11 found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=..."; \
		exit 1; } >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not a Python >= 3.11: name another with PYTHON=..."; exit 1; } >&2
	@echo "Creating $(@D) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(@D)
	@echo "Upgrading pip in $(@D)"
	@$(PIP) install --upgrade 'pip>=25.1'
	@touch $@

.venv/.demo: .venv/.created pyproject.toml constraints.txt
	@echo "Installing the kit and what the example needs (this can take a minute)"
	@$(PIP) install --constraint constraints.txt --editable . --group demo
	@touch $@

# The development tools include what the demo needs.
.venv/.setup: .venv/.created pyproject.toml constraints.txt
	@echo "Installing the kit and the development tools (this can take a minute)"
	@$(PIP) install --constraint constraints.txt --editable . --group dev
	@touch .venv/.demo $@

.venv-ci/.setup: .venv-ci/.created pyproject.toml constraints.txt
	@echo "Installing the development tools into .venv-ci (this can take a minute)"
	@$(PIP) install --constraint constraints.txt --group dev
	@touch $@

setup: $(VENV)/.setup ## make .venv with everything for development

# --- the example ---------------------------------------------------------------------------------

demo: .venv/.demo ## serve the example on http://127.0.0.1:5000/ (another port: PORT=8000)
	@echo
	@echo "  The advertising platform:  http://127.0.0.1:$(PORT)/"
	@echo "  Its signals:               http://127.0.0.1:$(PORT)/_signals"
	@echo
	@exec .venv/bin/flask --app example_app run --debug --host 127.0.0.1 --port $(PORT)

demo-celery: setup ## the example on Celery: Redis, a worker, beat and the app together
	@echo
	@echo "  The advertising platform:  http://127.0.0.1:$(PORT)/"
	@echo "  Its signals:               http://127.0.0.1:$(PORT)/_signals"
	@echo
	@exec $(BIN)/python -m example_app.demo_celery --port $(PORT)

# --- checks --------------------------------------------------------------------------------------

test: setup lint types imports wheel docs oldest pytest ## run every check, the tests last

lint: setup ## ruff: style, likely bugs, format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy and Pyright
	$(BIN)/mypy $(TYPED)
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: setup ## import-linter: which module may import which
	$(BIN)/lint-imports --no-logo

wheel: setup ## build the wheel into build/dist
	rm -rf build/dist
	$(BIN)/python -m pip -qq wheel --no-deps --wheel-dir build/dist .
ifeq ($(CI),true)
	$(BIN)/python -m pip -qq uninstall --yes flask-signals-kit
	$(BIN)/python -m pip -qq install --constraint constraints.txt build/dist/*.whl
endif

docs: $(INSTALLED) ## build the manual into build/docs, warnings are errors
	$(BIN)/sphinx-build -q -E -n -W --keep-going -d build/doctrees docs build/docs
	@echo "The manual is in build/docs/index.html"

# Where the tests run. On CI, a folder with everything but the package and the pytest plugin.
ifeq ($(CI),true)
TREE := build/ci
else
TREE := .
endif

tree: $(INSTALLED)
ifeq ($(CI),true)
	rm -rf $(TREE)
	mkdir -p $(TREE)
	git ls-files -z --cached --others --exclude-standard -- . \
		':(exclude)flask_signals_kit' ':(exclude)_flask_signals_kit_pytest.py' \
		| tar --null --files-from=- -cf - | tar -xf - -C $(TREE)
endif

pytest: tree ## run the tests alone (ARGS="-k relay -x")
	@cd $(TREE) && $(CURDIR)/$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

coverage: override ARGS += --cov
coverage: pytest ## run the tests, and print the lines and branches that none of them runs

# The Pythons of pyenv are found as well: its commands work for the versions named here.
pyenv = PYENV_VERSION="$$(pyenv versions --bare 2>/dev/null | paste -sd : -)"
tox = $(pyenv) TREE="$(CURDIR)/$(TREE)" $(BIN)/tox $1 \
	$(if $(filter true,$(CI)),--installpkg build/dist/*.whl)

oldest: tree ## run the library's tests with the oldest Flask, blinker and SQLAlchemy that it supports
	$(call tox,run -q) -e oldest-$$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])') -- \
		--ignore-glob='*/test_model.py' --ignore-glob='*/test_hammer.py' \
		tests/test_*.py tests/app tests/bridge tests/core tests/debug tests/deliveries tests/exception_hooks \
		tests/testing

matrix: tree ## run the tests on each Python, with other versions and with each extra (ARGS="-e core-py313")
	$(call tox,run-parallel --parallel 1 --parallel-no-spinner) $(or $(ARGS),-e ALL)

# A git URL, or a folder with a repository or a work tree.
FLASK_SOURCE ?= https://github.com/pallets/flask

flask-head: tree ## run the tests with Flask's development head (FLASK_SOURCE=URL or folder)
	@rm -rf build/flask-head build/flask-source
	@mkdir -p build
	@if ! GIT_TERMINAL_PROMPT=0 git clone -q --depth 1 "$(FLASK_SOURCE)" build/flask-source \
		&& ! { test -f "$(FLASK_SOURCE)/pyproject.toml" && cp -R "$(FLASK_SOURCE)" build/flask-source; }; then \
		echo "Skipped: there is no Flask at $(FLASK_SOURCE); name a source with FLASK_SOURCE=..."; \
		exit 0; \
	fi; \
	$(BIN)/python -m pip -qq install --no-deps --target build/flask-head build/flask-source \
	&& cd $(TREE) && PYTHONPATH=$(CURDIR)/build/flask-head $(CURDIR)/$(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

# Real processes that are killed, on real databases; `make test` runs the quick half of it.
faults: tree ## run the tests of faults, also the long ones (at most ten minutes)
	@cd $(TREE) && timeout 600 $(CURDIR)/$(BIN)/pytest -n 2 -m "long or not long" $(ARGS) \
		tests/faults tests/deliveries/durable/test_processes.py
	@cat $(TREE)/build/faults.md

bench: $(INSTALLED) ## measure the kit against its peers
	$(BIN)/python -m benchmarks $(ARGS)

# --- upkeep --------------------------------------------------------------------------------------

format: setup ## let ruff fix and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Made with the oldest Python 3.11 at hand, so that every newer one can use it.
constraints: ## renew constraints.txt (PYTHON=... names the oldest Python 3.11 at hand)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "constraints.txt is made with Python 3.11: name one with PYTHON=..."; exit 1; } >&2
	rm -rf build/constraints
	"$(PYTHON)" -m venv build/constraints
	build/constraints/bin/python -m pip -qq install --upgrade 'pip>=25.1'
	build/constraints/bin/python -m pip -qq install --editable . --group dev
	build/constraints/bin/python -m pip freeze --exclude-editable > constraints.txt
	rm -rf build/constraints

clean: ## remove what builds and tests leave behind (not .venv)
	rm -rf build dist .venv-ci .coverage .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

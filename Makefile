# evsed: every target sets up what it needs and says what it does. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Compiled files make every process of demo and tests start four times faster.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test check docs soak kills bench fuzz mutants lock clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): packaging/locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "evsed needs Python 3.11 or newer, this is " + sys.version.split()[0] + " (say PYTHON=/path/to/python3.11)")'
	@echo "== making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "== installing the pinned packages (hashes are checked)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r packaging/locks/dev.txt
	@echo "== installing evsed itself"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

# An independent OCMF verifier in another language, for the cross-checks; they are skipped where npm is absent.
NPM_READY := .venv/npm/.ready

$(NPM_READY): packaging/locks/npm/package-lock.json $(READY)
	@mkdir -p .venv/npm && cp packaging/locks/npm/package.json packaging/locks/npm/package-lock.json .venv/npm/
	@if command -v npm >/dev/null; then echo "== installing the pinned npm packages for cross-checks"; \
		cd .venv/npm && npm ci --silent --ignore-scripts --no-audit --no-fund || echo "== npm packages not installed: their checks are skipped"; fi
	@touch $(NPM_READY)

# On a terminal the demo stays for you to play with; elsewhere it ends by itself.
DEMO_ARGS ?= $(shell test -t 0 && test -t 1 || echo --once) --fast

demo: $(READY) ## a charger on simulated hardware charges cars and tells a CSMS
	@$(BIN)/evsed demo $(DEMO_ARGS)

test: $(READY) $(NPM_READY) ## all tests that need no hardware
	@echo "== tests"
	@$(BIN)/python -m pytest

check: $(READY) ## formatting, lint, types, import contracts, generated docs
	@echo "== formatting"; $(BIN)/ruff format --check .
	@echo "== lint"; $(BIN)/ruff check .
	@echo "== types"; $(BIN)/mypy
	@echo "== import contracts"; $(BIN)/lint-imports
	@echo "== generated docs"; $(BIN)/python docs/generate.py --check

docs: $(READY) ## write the generated documents
	@$(BIN)/python docs/generate.py

# SOAK_ARGS: what else `evsed world soak` takes, e.g. --pace seconds --days 0.2, --first-seed 1000, --json FILE.
MINUTES ?= 10
FAULTS ?= harsh
SOAK_ARGS ?=

soak: $(READY) ## station-years in simulated worlds on all cores, for MINUTES (10), with FAULTS (harsh)
	@$(BIN)/evsed world soak --minutes $(MINUTES) --faults $(FAULTS) $(SOAK_ARGS)

kills: $(READY) ## 200 kills of the station in mid-session, and every crash image of the ledger (half an hour)
	@echo "== kills"; EVSED_KILLS=200 $(BIN)/python -m pytest -k random_kills_lose tests/integration/test_processes.py
	@echo "== power cuts"; EVSED_CRASH=full $(BIN)/python -m pytest tests/crash

bench: $(READY) ## measure what docs/performance.md records
	@$(BIN)/python -m tests.bench

# A virtual environment of its own: the fuzzer is large, and there is not a build of it for every machine.
FUZZ_READY := .venv-fuzz/.ready
FUZZ_SECONDS ?= 20
FUZZ_TARGETS ?=

$(FUZZ_READY): packaging/locks/fuzz.txt packaging/locks/run.txt $(READY)
	@echo "== making .venv-fuzz: the fuzzer and the product's own packages"
	@$(PYTHON) -m venv .venv-fuzz && echo '*' > .venv-fuzz/.gitignore
	@.venv-fuzz/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes \
		-r packaging/locks/run.txt -r packaging/locks/fuzz.txt
	@touch $(FUZZ_READY)

fuzz: $(FUZZ_READY) ## every parser of outside bytes under a coverage-guided fuzzer, FUZZ_SECONDS (20) for each
	@echo "== fuzzing"; $(BIN)/python -m tests.fuzz run --seconds $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# A virtual environment of its own: what changes the code has no place among the tools that check it.
MUTANTS_READY := .venv-mutants/.ready
# Options of tests.mutation; without any it tries all, which takes an hour or two.
MUTANTS ?= --sample 1000 --seed 1

$(MUTANTS_READY): packaging/locks/mutants.txt packaging/locks/dev.txt
	@echo "== making .venv-mutants"
	@$(PYTHON) -m venv .venv-mutants
	@.venv-mutants/bin/pip install --quiet --disable-pip-version-check --require-hashes \
		-r packaging/locks/dev.txt -r packaging/locks/mutants.txt
	@touch $(MUTANTS_READY)

mutants: $(MUTANTS_READY) ## would the tests notice? A thousand changes, one at a time, in core, tariff and ledger
	@echo "== mutants"; .venv-mutants/bin/python -m tests.mutation $(MUTANTS)

lock: ## pin all packages anew (needs the network)
	@echo "== resolving; this takes some minutes"
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet pip-tools
	@for set in dev:--extra=dev run:--extra=sim; do \
		CUSTOM_COMPILE_COMMAND="make lock" .venv-lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --allow-unsafe \
		$${set#*:} --output-file packaging/locks/$${set%%:*}.txt pyproject.toml; done
	@cd packaging/locks && CUSTOM_COMPILE_COMMAND="make lock" $(CURDIR)/.venv-lock/bin/pip-compile --quiet --upgrade \
		--generate-hashes --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options \
		--allow-unsafe --output-file mutants.txt mutants.in
	@rm -rf .venv-lock
	@cd packaging/locks/npm && npm install --package-lock-only --omit-lockfile-registry-resolved=true --ignore-scripts \
		&& $(CURDIR)/$(BIN)/python -c 'import json, pathlib; p = pathlib.Path("package-lock.json"); d = json.loads(p.read_text()); \
		[e.pop("funding", None) for e in d["packages"].values()]; p.write_text(json.dumps(d, indent=2) + "\n")'

clean: ## remove everything that was made
	rm -rf .venv .venv-lock .venv-mutants build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

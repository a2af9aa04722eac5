# `make demo` runs the main job and `make test` the tests; `make help` lists the rest.

PYTHON ?= python3
BIN = .venv/bin
UV = .tools/uv/bin/uv
# pip installs only uv and PyTorch; a user's pip.conf may have settings that conflict with virtual environments.
export PIP_USER = 0
export PIP_REQUIRE_VIRTUALENV = 0
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export SAM_CLI_TELEMETRY = 0
# Otherwise each of the many processes would compile its packages again, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: .venv/installed-dev ## install everything that demo and test need

demo: .venv/installed ## classify photos with the whole stack on this machine, and report on the predictions
	$(BIN)/loading-bay demo
	$(BIN)/loading-bay report .local/demo/capture --decisions .local/decisions.json --output .local/report

test: test-unit test-stack ## unit, integration and e2e tests

# In the order of the files, because the slowest ones come first; more processes than most machines' two cores, because
# many tests wait.
PYTEST = $(BIN)/pytest --dist loadfile --no-loadscope-reorder

test-unit: setup
	$(PYTEST) --numprocesses 3 -m "not long" tests/unit

test-stack: setup
	$(PYTEST) --numprocesses 4 -m "not long" tests/e2e tests/integration

test-long: setup ## rare and long tests: faults, permissions, installations, Express executions, statistics
	$(PYTEST) --numprocesses 3 -m long tests/integration tests/e2e tests/unit

consumer: .venv/installed ## listen to the stack on this machine with examples/consumer, until Ctrl-C
	$(BIN)/loading-bay up
	$(BIN)/python examples/consumer/local.py

setup-training: .venv/installed-training ## also install PyTorch and the SageMaker SDK

test-training: setup-training ## types and tests of the code that needs PyTorch or the SageMaker SDK
	$(BIN)/mypy training/container/*.py tests/training/*.py
	$(BIN)/pytest tests/training

soak: setup ## thousands of photos under faults, and a thousand through an hour without the endpoint
	CAMPAIGN_PHOTOS=3000 $(BIN)/pytest tests/integration/test_campaign.py tests/integration/test_outage.py

bench: .venv/installed-bench ## run every benchmark beside its baseline, and compare with the last kept run
	$(BIN)/python -m benchmarks run
	$(BIN)/python -m benchmarks document
	$(BIN)/python -m benchmarks cost --plot
	$(BIN)/python -m benchmarks simulation --plot

fuzz: setup .tools/fuzz/installed ## 100,000 damaged photos, a comparison with Chromium, then five minutes of coverage-guided fuzzing (Linux)
	FUZZ_EXAMPLES=100000 $(BIN)/pytest tests/unit/test_fuzz_*.py tests/unit/test_photo_family.py tests/e2e/test_photo_colours.py
	@mkdir -p .local/fuzz
	.tools/fuzz/bin/python -m tests.fuzz.photo -max_total_time=300 .local/fuzz

lint: setup ## style, types, template, figures in the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sam validate --lint
	$(BIN)/python -m benchmarks document --check
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory lint-page; \
	elif [ -n "$$CI" ]; then echo "the pages' scripts cannot be checked: install Node, which brings npm" >&2; exit 1; \
	else echo "NOT CHECKED: the pages' scripts, as this needs Node (npm)"; fi

lint-page: .tools/node/installed
	.tools/node/node_modules/.bin/biome check --config-path=.ci/biome.json functions
	.tools/node/node_modules/.bin/tsc --project .ci/tsconfig.json

proof: setup .tools/node/installed ## definitions, expressions and permissions against independent validators (Node)
	$(BIN)/python -m tests.proof.cases .local/proof
	NODE_TOOLS=$(CURDIR)/.tools/node CASES=.local/proof/cases.json node --test --test-reporter spec tests/proof/prove.mjs

scan: setup .tools/scan/installed ## scanners of template, code and dependencies
	.ci/scan

sbom: .tools/sbom/installed ## bills of materials (CycloneDX) in .local/sbom
	@mkdir -p .local/sbom
	for lock in functions/*/requirements.txt requirements/lock.txt; do \
		.tools/sbom/bin/cyclonedx-py requirements $$lock --output-reproducible --of JSON \
			--outfile .local/sbom/$$(basename $$(dirname $$lock)).json; \
	done

licences: setup .tools/scan/installed ## list the licence of every dependency in docs/licences.md
	@mkdir -p .local
	@{ sed '/^|/d' docs/licences.md; .tools/scan/bin/pip-licenses --python $(BIN)/python --from mixed --order license \
		--format markdown --with-urls --packages \
		$$(sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' requirements/lock.txt); } > .local/licences.md
	@mv .local/licences.md docs/licences.md

setup-browser: ## install the browser for the page tests, if it is missing (Debian)
	@missing=; command -v pdftoppm >/dev/null || missing=poppler-utils; \
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	test -n "$$missing" || exit 0; \
	command -v apt-get >/dev/null || { echo "install these packages as this system does: $$missing" >&2; exit 1; }; \
	as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); $$as_root apt-get update && \
		$$as_root apt-get install --yes --no-install-recommends $$missing

pictures: setup ## take the docs' screenshots of the report from make demo (needs chromium)
	$(BIN)/python docs/pictures.py .local/report/report.html docs/images

recording: setup ## record the demo for the README
	MAKEFLAGS= MAKELEVEL= $(BIN)/python docs/recording.py docs/images/demo.svg

lock: $(UV) ## pin every dependency with its hash, from pyproject.toml and the .in files
	$(COMPILE) pyproject.toml --all-extras --output-file requirements/lock.txt
	for source in requirements/*.in tests/fuzz/requirements.in functions/*/requirements.in training/container/requirements.in; do \
		$(COMPILE) --no-config $$source --output-file $${source%.in}.txt; \
	done
	@command -v npm >/dev/null || { echo "requirements/node is not pinned again, as this needs Node (npm)" >&2; exit 1; }
	npm install --prefix requirements/node --package-lock-only --no-audit --no-fund

clean: ## stop the local stack, and remove everything built or installed
	@! $(BIN)/python -c 'import loading_bay.local.stack' 2>/dev/null || $(BIN)/loading-bay down
	rm -rf .venv .tools .local .aws-sam loading_bay.egg-info

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"
# The lock's hashes also apply to the packages that these packages need.
INSTALL = $(UV) pip install --python $(BIN)/python --constraint requirements/lock.txt --requirement pyproject.toml

# Each environment is installed once, and again when its pins change.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; choose one with: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv .venv

$(UV): requirements/uv.txt | .venv/bin/python
	@test -x .tools/uv/bin/python || $(PYTHON) -m venv .tools/uv
	@.tools/uv/bin/python -m pip install --quiet --require-hashes --requirement $<
	@touch $@

.venv/installed: requirements/lock.txt pyproject.toml $(UV)
	@echo "installing the packages of the demo into .venv …"
	@$(INSTALL) --require-hashes --extra local --extra report --excludes requirements/demo-excludes.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing the packages of the tests into .venv …"
	@$(INSTALL) --require-hashes --extra local --extra report --extra dev
	@touch $@

.venv/installed-bench: .venv/installed-dev
	@$(INSTALL) --require-hashes --extra local --extra bench
	@touch $@

# PyTorch builds differ by platform, so its version is pinned but not its hash.
.venv/installed-training: requirements/torch.txt .venv/installed-dev
	@echo "installing PyTorch and the SageMaker SDK into .venv …"
	@$(INSTALL) --require-hashes --extra local --extra report --extra dev --extra training
	@$(BIN)/python -m pip install --quiet --requirement $<
	@touch $@

.tools/fuzz/installed: tests/fuzz/requirements.txt $(UV)
	$(call install_tools,.tools/fuzz,$<)

.tools/scan/installed: requirements/scan.txt $(UV)
	$(call install_tools,.tools/scan,$<)

# checkov holds back a library of cyclonedx-bom.
.tools/sbom/installed: requirements/sbom.txt $(UV)
	$(call install_tools,.tools/sbom,$<)

.tools/node/installed: requirements/node/package-lock.json
	@echo "installing requirements/node into .tools/node …"
	@mkdir -p .tools/node && cp requirements/node/*.json .tools/node
	@npm ci --prefix .tools/node --silent --no-audit --no-fund
	@touch $@

define install_tools
	@echo "installing $(2) into $(1) …"
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python $(1)
	@$(UV) pip install --no-config --python $(1)/bin/python --require-hashes --requirement $(2)
	@touch $@
endef

.PHONY: help setup setup-training demo test test-unit test-stack test-long test-training soak bench fuzz lint lint-page proof scan sbom licences setup-browser pictures recording lock clean

# Two commands do it all: `make demo` runs the main job, `make test` the tests. `make help` lists the rest.

PYTHON ?= python3
VENV = .venv/bin/python
# Environments are installed side by side.
MAKEFLAGS += --jobs=3
DEMO = .venv/installed .tools/sam/installed

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: .venv/bin/loading-bay .venv/installed-dev .tools/sam/installed-lint ## install what demo and test need

demo: $(DEMO) ## classify photos with the whole stack on this machine, and report on the predictions
	$(VENV) -m local demo
	$(VENV) -m monitoring report .local/demo/capture --decisions .local/decisions.json --output .local/report

test: setup ## unit, integration and e2e tests
	$(VENV) -m pytest --numprocesses 2 --dist loadfile tests/unit
	$(VENV) -m pytest --numprocesses 2 --dist loadfile tests/integration tests/e2e

setup-training: .venv-training/installed ## install PyTorch and the SageMaker SDK

test-training: setup setup-training ## types and tests of what needs PyTorch or the SageMaker SDK
	$(VENV) -m mypy --python-executable .venv-training/bin/python training/container/*.py tests/training/*.py
	.venv-training/bin/python -m pytest tests/training

soak: setup ## thousands of photos under faults, and a thousand through an hour without the endpoint
	CAMPAIGN_PHOTOS=3000 $(VENV) -m pytest tests/integration/test_campaign.py tests/integration/test_outage.py

bench: setup .venv/installed-bench ## every benchmark beside its baseline, and what changed since the last kept run
	$(VENV) -m benchmarks run
	$(VENV) -m benchmarks document
	$(VENV) -m benchmarks cost --plot
	$(VENV) -m benchmarks simulation --plot

fuzz: setup .tools/fuzz/installed ## 100,000 spoilt photos, then five minutes guided by coverage (Linux)
	FUZZ_EXAMPLES=100000 $(VENV) -m pytest tests/unit/test_fuzz_*.py
	@mkdir -p .local/fuzz
	.tools/fuzz/bin/python -m tests.fuzz.photo -max_total_time=300 .local/fuzz

lint: setup ## style, types, template
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy
	SAM_CLI_TELEMETRY=0 .tools/sam/bin/sam validate --lint
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	.venv/bin/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yaml
	.venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

scan: setup .tools/scan/installed ## scanners of template, code and dependencies
	.ci/scan

sbom: .tools/scan/installed ## bills of materials (CycloneDX) in .local/sbom
	@mkdir -p .local/sbom
	for function in serialize inference threshold review; do \
		.tools/scan/bin/cyclonedx-py requirements functions/$$function/requirements.txt --output-reproducible \
			--of JSON --outfile .local/sbom/$$function.json; \
	done
	.tools/scan/bin/cyclonedx-py requirements requirements/dev.txt --output-reproducible --of JSON --outfile .local/sbom/dev.json

licences: setup .tools/scan/installed ## list the licence of every dependency in docs/licences.md
	@mkdir -p .local
	@{ sed '/^|/d' docs/licences.md; .tools/scan/bin/pip-licenses --python $(VENV) --from mixed --order license \
		--format markdown --with-urls --packages \
		$$(sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' requirements/dev.txt); } > .local/licences.md
	@mv .local/licences.md docs/licences.md

pictures: setup ## photograph the report that make demo left, for this page (needs chromium)
	$(VENV) docs/pictures.py .local/report/report.html docs/images

lock: ## pin every dependency of every environment, with hashes, from pyproject.toml and the .in files
	$(PYTHON) -m venv .tools/uv && .tools/uv/bin/python -m pip install --quiet uv==0.13.8
	$(LOCK) pyproject.toml --extra local --extra monitoring --extra dev --output-file requirements/dev.txt
	$(LOCK) pyproject.toml --extra local --extra monitoring --constraints requirements/dev.txt \
		--output-file requirements/demo.txt
	$(LOCK) pyproject.toml --extra bench --output-file requirements/bench.txt
	$(LOCK) pyproject.toml requirements/training.in --extra training --extra sagemaker \
		--excludes requirements/torch.in --output-file requirements/training.txt
	$(LOCK) requirements/sam.in --overrides requirements/sam-overrides.in --output-file requirements/sam-lint.txt
	$(LOCK) requirements/sam.in --overrides requirements/sam-overrides.in --excludes requirements/sam-excludes.in \
		--output-file requirements/sam.txt
	$(LOCK) requirements/scan.in --output-file requirements/scan.txt
	$(LOCK) tests/fuzz/requirements.in --output-file tests/fuzz/requirements.txt
	for function in serialize inference threshold review; do \
		$(LOCK) functions/$$function/requirements.in --output-file functions/$$function/requirements.txt; \
	done

clean: ## remove what was built and installed
	rm -rf .venv .venv-training .tools .local .aws-sam

LOCK = .tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock"

# An environment is installed once, and again when its pins change.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; give one with: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: requirements/demo.txt | .venv/bin/python
	$(call install,.venv,$<)

.venv/installed-dev: requirements/dev.txt .venv/installed
	$(call install,.venv,$<)

# Every command under one name, from any folder: put .venv/bin on your PATH, or link this file into a folder there.
.venv/bin/loading-bay: .venv/installed
	@printf '%s\n' '#!/bin/sh' 'bin=$$(dirname "$$(readlink -f "$$0")")' \
		'exec "$$bin/python" "$$bin/../../loading_bay.py" "$$@"' > $@
	@chmod +x $@

# What the benchmarks compare with: too much for everybody's environment.
.venv/installed-bench: requirements/bench.txt .venv/installed-dev
	$(call install,.venv,$<)

# PyTorch's build differs by platform, so its version is pinned and its hash is not.
.venv-training/installed: requirements/training.txt requirements/torch.in | .venv/bin/python
	@test -x .venv-training/bin/python || $(PYTHON) -m venv .venv-training
	$(call install,.venv-training,$<)
	@.venv-training/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/torch.in

.tools/fuzz/installed: tests/fuzz/requirements.txt | .venv/bin/python
	$(call install,.tools/fuzz,$<)

.tools/sam/installed-lint: requirements/sam-lint.txt .tools/sam/installed
	$(call install,.tools/sam,$<)

.tools/%/installed: requirements/%.txt | .venv/bin/python
	$(call install,.tools/$*,$<)

# Says which package it is at, and how many there are. Bytecode is made of what is used, when it is used.
define install
	@echo "installing $< into $(1) …"
	@test -x $(1)/bin/python || $(PYTHON) -m venv --without-pip $(1)
	@rm -f $@
	@{ .venv/bin/python -m pip --python $(1)/bin/python install --disable-pip-version-check --no-compile \
		--progress-bar off --require-hashes --no-deps --requirement $< && touch $@; } | awk -v of=$$(grep -c == $<) -v shown=$$(test -t 1 && echo 1) \
		'shown && /^(Collecting|Processing|Requirement already)/ { sub(/.*\//, "", $$2); printf "\r\033[K  %d of %d: %s", ++n, of, $$2; fflush() } \
		shown && /^Installing/ { printf "\r\033[K  unpacking"; fflush() } END { if (shown) printf "\r\033[K" }'
	@test -e $@
endef

.PHONY: help setup setup-training demo test test-training soak bench fuzz lint scan sbom licences pictures lock clean

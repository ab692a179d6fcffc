# Every target works on a fresh clone and may be run again at any time.
#
#   make demo    set up, then train a swarm on one machine   (EXAMPLE=digits|mnist|fraud|cancer|xray|text,
#                FRAMEWORK=keras|torch|sklearn|lightning|hf as the example has it, CHAIN=auto|geth|embedded,
#                MERGE=mean|coordmedian|geomedian|trimmed_mean|krum, COMPRESSION=none|lossless|bf16)
#   make compose-demo   the same out of containers, by Docker Compose       (FRAMEWORK, MERGE, COMPRESSION)
#   make test    set up, then run every test                              (ARGS="-k name" narrows)
#   make test-parts   install and start what the tests use: Docker, Podman, PostgreSQL, Chromium, ...   (root on Debian)
#   make fuzz    give every decoder that reads what peers send 100,000 inputs   (EXAMPLES=100000)
#   make lint    format, lint, types
#   make bench   every benchmark
#   make chaos   set up, then break swarms that train                     (RUNS=20, SEED=any, FAULTS="part of a name")
#   make setup   only set up: .venv and geth
#   make clean   remove what these targets made, except .tools

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

EXAMPLE ?= digits
FRAMEWORK_OF_cancer := torch
FRAMEWORK_OF_text := hf
FRAMEWORK ?= $(or $(FRAMEWORK_OF_$(EXAMPLE)),keras)
CHAIN ?= auto
MERGE ?= mean
COMPRESSION ?= none
ARGS ?=
RUNS ?= 20
SEED ?=
FAULTS ?=

VENV := .venv
PYTHON := $(VENV)/bin/python
GETH_VERSION := v1.13.15
SOURCES := contracts services swarm_callback swarmlearning examples benchmarks tests docs compose docker

export PATH := $(CURDIR)/.tools/bin:$(PATH)

.PHONY: help setup setup-dev geth demo compose-demo test test-restarts test-scripts test-kits test-backends test-tasks test-parts screenshots fuzz lint format bench chaos proto contracts docs lock image-locks clean

help:
	@sed -n '3,13p' $(MAKEFILE_LIST) | sed 's/^# \{0,3\}//'

setup: $(VENV)/.with-$(FRAMEWORK) geth

setup-dev: $(VENV)/.with-dev geth

demo: setup
	$(PYTHON) -m examples.demo --example $(EXAMPLE) --framework $(FRAMEWORK) --chain $(CHAIN) --merge $(MERGE) \
	  --compression $(COMPRESSION)

# The host needs neither geth nor a framework for it.
compose-demo: $(VENV)/.with-containers
	$(PYTHON) -m examples.digits.compose_demo --framework $(FRAMEWORK) --merge $(MERGE) --compression $(COMPRESSION)

test: setup-dev
	$(PYTHON) -m pytest tests/unit tests/contracts tests/integration tests/e2e tests/chaos tests/browser $(ARGS)

# Kills and restarts containers of a swarm that trains; takes minutes.
test-restarts: setup-dev
	$(PYTHON) -m pytest tests/e2e/compose_restarts.py $(ARGS)

# Trains by the scripts of scripts/bin, with Docker and with Podman; takes minutes.
test-scripts: setup-dev
	$(PYTHON) -m pytest tests/e2e/scripts_swarm.py $(ARGS)

# Organizations on networks of their own train out of the containers of their start-up kits; takes minutes.
test-kits: setup-dev
	$(PYTHON) -m pytest tests/e2e/provision_swarms.py tests/e2e/compose_hosts.py $(ARGS)

# The task files of every example, by SWOPs with local processes, and tasks by SWOPs of Compose; takes minutes.
test-tasks: setup-dev
	$(PYTHON) -m pytest tests/e2e/example_tasks.py tests/e2e/compose_tasks.py $(ARGS)

fuzz: setup-dev
	FUZZ_EXAMPLES=$(or $(EXAMPLES),100000) $(PYTHON) -m pytest tests/unit/test_decoders_fuzz.py --timeout=3600 $(ARGS)

# Keras on JAX and on PyTorch in one swarm; takes a minute.
test-backends: setup-dev
	$(PYTHON) -m pytest tests/e2e/keras_backends.py $(ARGS)

# Without them the tests that need them are skipped and named at the end; in CI they fail.
test-parts:
	tests/install-parts

# Pictures of the license server's pages, for docs/images.
screenshots: setup-dev
	LICENSE_SCREENSHOTS=docs/images $(PYTHON) -m pytest tests/browser/test_license_looks.py -k pictures

lint: $(VENV)/.with-dev
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/mypy

format: $(VENV)/.with-dev
	$(VENV)/bin/ruff format $(SOURCES)
	$(VENV)/bin/ruff check --fix $(SOURCES)

bench: setup-dev
	$(PYTHON) -m benchmarks.coordination --chain geth
	$(PYTHON) -m benchmarks.coordination --sn 3 --nodes 8
	$(PYTHON) -m benchmarks.startup
	$(PYTHON) -m benchmarks.commands
	@# It needs Docker with Compose.
	$(PYTHON) -m benchmarks.containers
	$(PYTHON) -m benchmarks.leases
	$(PYTHON) -m benchmarks.recovery
	$(PYTHON) -m benchmarks.scale --sl 64
	$(PYTHON) -m benchmarks.longrun --rounds 1000
	$(PYTHON) -m benchmarks.kernels
	$(PYTHON) -m benchmarks.round --size-mb 100 --nodes 3 --peer nvflare
	$(PYTHON) -m benchmarks.large --size-mb 4096
	@# These need root: they make network namespaces.
	$(PYTHON) -m benchmarks.shards --nodes 2,4,8 --link 100mbit
	$(PYTHON) -m benchmarks.compression
	$(PYTHON) -m benchmarks.callback
	$(PYTHON) -m benchmarks.accuracy

chaos: setup-dev
	$(PYTHON) -m tests.chaos.main --runs $(RUNS) --seed "$(SEED)" --faults "$(FAULTS)"

# Generated files that are committed; the tests check that they are current.
proto: $(VENV)/.with-dev
	$(PYTHON) -m services.rpc.generate

contracts: $(VENV)/.with-dev
	$(PYTHON) -m contracts.compile

docs: $(VENV)/.with-dev
	$(PYTHON) docs/generate.py

lock: $(VENV)/bin/uv
	$(VENV)/bin/uv pip compile pyproject.toml --extra services --extra keras --extra torch --extra examples --extra dev \
	  --no-header --upgrade --quiet -o requirements.lock
	$(MAKE) image-locks

# What images install, by hash: the same versions. chain.txt is what comes on top of node.txt.
HASHED := $(VENV)/bin/uv pip compile --constraint requirements.lock --generate-hashes --no-header --no-annotate --quiet
image-locks: $(VENV)/bin/uv
	echo 'setuptools>=77' | $(HASHED) - -o docker/locks/build.txt
	$(HASHED) pyproject.toml -o docker/locks/client.txt
	$(HASHED) pyproject.toml --extra node -o docker/locks/node.txt
	$(HASHED) pyproject.toml --extra chain $$(sed -n 's/^\([^ =]*\)==.*/--no-emit-package \1/p' docker/locks/node.txt) \
	  -o docker/locks/chain.txt
	for framework in keras torch; do \
	  $(HASHED) pyproject.toml --extra $$framework -o docker/locks/$$framework.txt && \
	  $(HASHED) pyproject.toml --extra $$framework --extra examples -o docker/locks/digits-$$framework.txt || exit 1; \
	done

clean:
	rm -rf $(VENV) demo-out .swarm .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info contracts/node_modules
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what setup is made of ------------------------------------------------------------------------------

$(VENV)/bin/uv:
	@command -v python3 >/dev/null || { echo "ERROR: python3 (3.11 or newer) is not on the PATH. Install it and run make again." >&2; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ERROR: $$(python3 --version) is too old; 3.11 or newer is needed." >&2; exit 1; }
	python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv

$(addprefix $(VENV)/.with-,keras torch sklearn lightning hf): $(VENV)/.with-%: pyproject.toml requirements.lock | $(VENV)/bin/uv
	$(VENV)/bin/uv pip install --python $(PYTHON) --constraint requirements.lock --editable '.[services,$*,examples]'
	@touch $@

$(VENV)/.with-containers: pyproject.toml requirements.lock | $(VENV)/bin/uv
	$(VENV)/bin/uv pip install --python $(PYTHON) --constraint requirements.lock --editable '.[services,examples]'
	@touch $@

$(VENV)/.with-dev: pyproject.toml requirements.lock | $(VENV)/bin/uv
	$(VENV)/bin/uv pip install --python $(PYTHON) --constraint requirements.lock --editable '.[services,keras,torch,examples,dev]'
	@touch $@

# Only geth 1.13 seals blocks without a beacon chain; a newer one on the PATH does not serve.
geth:
	@if geth version 2>/dev/null | grep -q "^Git Commit: $$(geth/build --mark)$$"; then \
	  :; \
	elif command -v go >/dev/null; then \
	  echo "Building geth $(GETH_VERSION) with Go, once (about 100 s on two cores) ..."; \
	  geth/build $(GETH_VERSION) $(CURDIR)/.tools/bin; \
	elif geth version 2>/dev/null | grep -q '^Version: 1\.13\.'; then \
	  echo "The geth on the PATH serves. Built by geth/build, which needs Go, it is also guarded: see SECURITY.md."; \
	else \
	  echo "Neither geth 1.13 nor Go is on the PATH: the embedded chain will serve. Install Go and run 'make setup' for geth."; \
	fi

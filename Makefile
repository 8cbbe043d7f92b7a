# Every target keeps its environment in .venv and installs what it needs. Nothing here needs a GPU or a network hub.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 8080
ADMIN_PORT ?= 8081
# At the default port none is asked for, so that a taken 8090 is no error; elsewhere it follows PORT.
GRPC_PORT ?= $(if $(filter 8080,$(PORT)),,$(if $(filter 0,$(PORT)),0,$(shell echo $$(($(PORT) + 10)))))
LOADTEST_URL ?=
LOADTEST_ADMIN_URL ?=
SCENARIO ?= loadtests/scenarios/default.toml
SLO ?= loadtests/slo.toml
RATE ?=
SECONDS ?=
CAPACITY ?=
SCALING ?=
BENCH ?=
TEST_PROCESSES ?= 2
COVERAGE ?=
REPOSITORY ?= model_repository
MODELS ?= digits-cnn efficientnet nanodet selfie cnn alexnet resnet vit transfer unet yolo captioner captioner-transformer minilm-static clip diffusion ddpm
ZOO ?= minilm
TRITON_HTTP_PORT ?= 8000
TRITON_GRPC_PORT ?= 8001
TRITON_METRICS_PORT ?= 8002
# Where there is no Triton its tests are skipped, and what only they run is not covered.
LESS_COVERED = $(if $(wildcard .triton/installed),,--cov-fail-under=90)
# Programs that tests start by the hundred shall not compile all anew.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# What decides an install: when one of these changes, the next target installs again.
PINS := pyproject.toml constraints.txt

.PHONY: help serve test test-promises lint format bench loadtest capacity scaling guard-plot models zoo models-page pins triton triton-install data dashboards secrets pin-images stack clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "tidegate needs Python 3.11 or newer; name one with PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.serve: $(PINS) | $(BIN)/python
	@echo "installing into .venv ..."
	@$(PIP) --editable '.[serve]'
	@touch $@

.venv/.dev: $(PINS) | .venv/.serve
	@echo "installing what development and export need into .venv ..."
	@$(PIP) --editable '.[dev,export]'
	@touch $@

serve: .venv/.serve ## start on http://127.0.0.1:8080 with the models in model_repository/
	@exec $(BIN)/tidegate serve --repository model_repository --port $(PORT) --admin-port $(ADMIN_PORT) \
	  $(if $(GRPC_PORT),--grpc-port $(GRPC_PORT))

test: .venv/.dev ## the whole test suite, TEST_PROCESSES files at a time; COVERAGE=1 checks what of serving/ it covers, too
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
	  $(if $(COVERAGE),--cov --cov-report=term:skip-covered $(LESS_COVERED))

test-promises: .venv/.dev ## what users may rely on: overload, switches, faults, kills, each family trained; most of an hour
	@$(BIN)/python -m pytest tests/promises -s

lint: .venv/.dev ## ruff, mypy strict, import rules, Dockerfiles, the compose file
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/hadolint deploy/*/Dockerfile
	@for profile in gpu cpu; do $(BIN)/docker-compose --profile $$profile config --quiet || exit 1; done

format: .venv/.dev ## put the code into its form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

loadtest: .venv/.dev ## SCENARIO at RATE for SECONDS, judged by SLO, and how much the photo route can do; LOADTEST_URL=... of one that runs
	@$(BIN)/python -m loadtests run --scenario "$(SCENARIO)" --slo "$(SLO)" --out build/loadtest \
	  --url "$(LOADTEST_URL)" --admin-url "$(LOADTEST_ADMIN_URL)" $(if $(RATE),--rate $(RATE)) $(if $(SECONDS),--seconds $(SECONDS))
	@$(if $(LOADTEST_URL),,$(BIN)/python -m loadtests capacity --slo "$(SLO)" --out build/loadtest)

capacity: .venv/.dev ## the largest rate that SLO allows, beside callers who wait; five minutes; CAPACITY="--help" for options
	@$(BIN)/python -m loadtests capacity --slo "$(SLO)" --out build/loadtest --within 0.1 --url "$(LOADTEST_URL)" $(CAPACITY)

guard-plot: .venv/.dev ## draw trials, and how long the guard takes to find what is wrong: docs/guard/; five minutes
	@$(BIN)/python -m loadtests.guarding

scaling: .venv/.dev ## measure this machine, simulate many, write the tables of docs/scaling.md; eight minutes; SCALING="--no-measure"
	@$(BIN)/python -m loadtests.simulation $(SCALING)

bench: .venv/.dev ## tidegate beside a plain server, Triton and FAISS, and beside itself unwatched, nine minutes; BENCH="--help" for options
	@$(BIN)/python -m loadtests.bench $(BENCH)

data: ## fetch the data sets and weights that no Python package carries into .data; nothing is installed
	@exporters/data/fetch.sh .data

models: .venv/.dev data ## train and publish the committed models anew, into build/model_repository
	@for model in $(MODELS); do $(BIN)/exporters train $$model --repository build/model_repository || exit 1; done

zoo: .venv/.dev data ## publish models that are too large for git into REPOSITORY: real text embeddings (minilm)
	@for model in $(ZOO); do $(BIN)/exporters train $$model --repository "$(REPOSITORY)" || exit 1; done

models-page: .venv/.dev ## write docs/models.md and its pictures from the committed models
	@$(BIN)/exporters describe

pins: .venv/.dev ## write constraints.txt from what is installed
	@$(BIN)/python -m pip freeze --exclude-editable | grep -v '^-e ' | sed 's/+cpu$$//' > constraints.txt

.triton/installed: deploy/triton/install.sh deploy/triton/requirements.txt
	@PYTHON="$(PYTHON)" deploy/triton/install.sh

triton-install: .triton/installed ## a real Triton 2.51 and perf_analyzer into .triton; no Docker, no GPU

triton: .triton/installed ## start it on REPOSITORY, ports TRITON_HTTP_PORT, _GRPC_PORT, _METRICS_PORT; it loads nothing itself
	@HTTP_PORT=$(TRITON_HTTP_PORT) GRPC_PORT=$(TRITON_GRPC_PORT) METRICS_PORT=$(TRITON_METRICS_PORT) \
	  exec deploy/triton/start.sh "$(REPOSITORY)"

dashboards: .venv/.dev ## write deploy/grafana/dashboards from deploy/dashboards
	@$(BIN)/python -m deploy.dashboards

secrets: ## passwords for docker compose into deploy/secrets; those that are there stay
	@deploy/secrets.sh

pin-images: ## tags of images into tags with digests, where there is Docker and a network; to be committed
	@$(PYTHON) deploy/pin_images.py

stack: .venv/.dev .triton/installed ## the compose file's services without Docker: Triton, Redis, Prometheus, two gateways; Ctrl-C ends them
	@exec $(BIN)/python -m deploy.stack --repository "$(REPOSITORY)"

clean: ## remove the environments and all that was built
	@rm -rf .venv .triton build *.egg-info

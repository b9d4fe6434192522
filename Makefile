# foretoken: one file of commands. `make` lists them.
#
# Everything lives in $(VENV). An environment that is there is kept as it is, its torch included; what is missing is
# installed. Stamp files in it remember what is done, so that a second run starts at once.

PYTHON ?= python3
VENV ?= .venv
# For a Python that already has torch: make demo VENV_FLAGS=--system-site-packages
VENV_FLAGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install
LOCKED := $(if $(CI),--locked)
RUST := $(wildcard Cargo.toml Cargo.lock) $(shell find rust -name target -prune -o \( -name '*.rs' -o -name Cargo.toml \) -print)
BENCHES ?= $(sort $(wildcard benches/[a-z]*.py))

INSTALLED := $(VENV)/.foretoken-installed
BUILT := $(VENV)/.foretoken-built
TOOLS := $(VENV)/.foretoken-tools

# Models of what threads share, apart from other builds. Not optimised: that takes longer than it saves.
MODELS := RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom CARGO_PROFILE_TEST_OPT_LEVEL=0

export PYO3_PYTHON := $(abspath $(BIN)/python)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check setup bench dist clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  (PYTHON=python3.12 chooses the Python, VENV=folder the environment)"

demo: $(BUILT) ## Install what is needed, the first time, and write a story with the shipped model
	@$(BIN)/foretoken generate "Once upon a time" --max-tokens 200 --temperature 0.8 --top-p 0.95 --seed 7 --drafter several
	@echo; echo "a text of yours: $(BIN)/foretoken generate \"The wolf said\" --seed 8"

test: check ## Build everything and run every check and every test
	cargo test $(LOCKED)
	$(MODELS) cargo test $(LOCKED) --package foretoken-core --lib models
	$(BIN)/python -m pytest

check: setup ## Formatters, linters and type checkers only
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pyright --pythonpath $(BIN)/python
	$(BIN)/python -m mypy.stubtest foretoken._rust --mypy-config-file pyproject.toml

setup: $(TOOLS) $(BUILT) ## The environment of a contributor: the package in place, built, and the tools

bench: setup ## Measure what a user feels, beside other libraries, in one run
	@for file in $(BENCHES); do echo "== $$file"; $(BIN)/python "$$file" || failed="$$failed $$file"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

dist: $(TOOLS) ## Build the wheel and the source archive into dist/
	$(BIN)/python -m maturin build --release --sdist --out dist

clean: ## Remove what was built; the environment stays
	rm -rf target dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f python/foretoken/_rust*.so $(BUILT)
	find python tests benches -name __pycache__ -prune -exec rm -rf {} +

# pip is the last thing that venv writes: an environment cut short has none, and is finished here.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "foretoken needs Python 3.10 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_FLAGS) $(VENV) || { rm -rf $(VENV); exit 1; }
	test -x $@ || $(BIN)/python -m ensurepip --default-pip

# Without build isolation pip takes the maturin that later builds take too, so the core is compiled once. Pip is left to
# talk only where it has something to say: torch is large.
$(INSTALLED): pyproject.toml | $(BIN)/pip
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.89 or newer with rustup"; exit 1; }
	@$(BIN)/python -c 'import torch' 2>/dev/null && quiet=--quiet || echo "fetching torch first: large, but only once"; \
	$(PIP) --quiet 'maturin>=1.14,<2' && echo "installing, and compiling the core: a minute or two" && \
	$(PIP) $$quiet --no-build-isolation --editable .
	@touch $@

$(BUILT): $(RUST) $(INSTALLED)
	@$(BIN)/python -m maturin develop --quiet --release --skip-install $(LOCKED)
	@touch $@

$(TOOLS): $(INSTALLED)
	$(PIP) --quiet --no-build-isolation --editable '.[dev]'
	@touch $@

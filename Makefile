# The one door: each target makes what it needs. PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHAT := $(VENV)/.ready-chat

.PHONY: chat test stress lint format types bench bench-deflate bench-memory micro conformance clean

chat: $(CHAT)  ## the group chat at http://localhost:3000
	$(BIN)/python examples/chat/server.py

test: $(READY)  ## the tests
	$(BIN)/python -m pytest

stress: $(READY)  ## the long runs of the properties and loads
	$(BIN)/python -m pytest -m stress

lint: $(READY)  ## what ruff thinks, read-only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## let ruff mend it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## mypy --strict
	$(BIN)/mypy

bench: $(READY)  ## the chat against Bun and Node ws (installs them from npm)
	$(BIN)/python -m benchmarks.bench_chat

bench-deflate: $(READY)  ## compressed publishes against Bun and Node ws
	$(BIN)/python -m benchmarks.bench_deflate

bench-memory: $(READY)  ## resident memory of 10,000 idle connections
	$(BIN)/python -m benchmarks.bench_memory

micro: $(READY)  ## micro-benchmarks of the rooms
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only -m ""

conformance: $(READY)  ## the whole Autobahn suite, then a slice of it over TLS (needs a python2.7)
	$(BIN)/python -m tests.conformance
	$(BIN)/python -m tests.conformance --tls

$(CHAT): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(CHAT)

clean:  ## remove what was made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf benchmarks/.build benchmarks/.peers tests/.peers tests/conformance/.env tests/conformance/.reports

# The one door: each target makes what it needs. PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

ROOMS := $(wildcard bunws/*.pxd bunws/http/*.pxd)  # what is compiled: each has its .py beside it

.PHONY: build chat test test-pure stress soak fuzz lint format types bench bench-quick micro micro-compare conformance docs clean

chat: $(VENV)/.ready-chat  ## the group chat at http://localhost:3000
	$(BIN)/python examples/chat/server.py

test: $(VENV)/.ready  ## the tests
	$(BIN)/python -m pytest
test-pure: $(VENV)/.ready  ## the same without what is compiled
	BUNWS_PURE=1 $(BIN)/python -m pytest $(TESTS)
build: $(VENV)/.ready  ## compile what was changed

stress: $(VENV)/.ready  ## the long runs of the properties and loads
	$(BIN)/python -m pytest -m stress
soak: $(VENV)/.ready-bench  ## ten minutes of everything at once, and what is left of it
	$(BIN)/python -m tests.soak --minutes 10 --svg soak.svg
fuzz: $(VENV)/.ready  ## each parser, a minute of broken bytes (needs a Python that atheris has a wheel for)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	$(BIN)/python -m fuzz --seconds 60
conformance: $(VENV)/.ready  ## the whole Autobahn suite, then a slice of it over TLS (needs a python2.7)
	$(BIN)/python -m tests.conformance
	$(BIN)/python -m tests.conformance --tls

lint: $(VENV)/.ready  ## what ruff thinks, read-only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
format: $(VENV)/.ready  ## let ruff mend it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
types: $(VENV)/.ready  ## mypy --strict
	$(BIN)/mypy
docs: $(VENV)/.ready  ## run every piece of code in README and docs
	$(BIN)/python -m pytest tests/test_docs.py

bench: $(VENV)/.ready-bench  ## every workload against every peer (an hour and more); results and plots in benchmarks/results
	$(BIN)/python -m benchmarks
bench-quick: $(VENV)/.ready-bench  ## the same in minutes, to see that it runs
	$(BIN)/python -m benchmarks --quick
micro: $(VENV)/.ready  ## micro-benchmarks of the rooms
	$(BIN)/python -m benchmarks micro
micro-compare: $(VENV)/.ready  ## the same against the saved baseline
	$(BIN)/python -m benchmarks micro --compare

$(VENV)/.ready-chat: EXTRAS :=
$(VENV)/.ready: EXTRAS := [dev]
$(VENV)/.ready-bench: EXTRAS := [dev,bench]
$(VENV)/.ready $(VENV)/.ready-chat $(VENV)/.ready-bench: pyproject.toml setup.py $(ROOMS) $(ROOMS:.pxd=.py)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	touch $@

clean:  ## remove what was made
	rm -rf $(VENV) bunws/*.so bunws/http/*.so build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis soak.svg
	rm -rf benchmarks/.build benchmarks/.peers tests/.peers tests/conformance/.env tests/conformance/.reports

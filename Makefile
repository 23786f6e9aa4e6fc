# Everything here sets itself up: it needs Python 3.10 or newer, a C compiler and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
SDK_VENV ?= .venv-sdk
SDK_STAMP = $(SDK_VENV)/.installed
PEERS_VENV ?= .venv-peers
PEERS_STAMP = $(PEERS_VENV)/.installed
BENCH_STAMP = $(VENV)/.installed-bench
# Half of the tests wait for a server or a program. pytest-benchmark and pytest-xdist do not go together.
PYTEST = $(BIN)/python -m pytest -p no:benchmark -n 4
SOURCES = pyproject.toml setup.py $(wildcard csrc/*.c csrc/*.h csrc/*.py)

.PHONY: demo test test-all sealing test-c ct counts counts-update fuzz fuzz-controls coverage-c proofs cross timing mutants \
  bench bench-check coverage lint types lock dist build clean
.DELETE_ON_ERROR:

demo: $(STAMP)  ## a confidential chat, seen from both ends and from the middle; CHAT=1 keeps the prompt open
	@$(BIN)/atoma-crypto demo $(if $(CHAT),--chat)

test: $(STAMP) $(SDK_STAMP)  ## all tests but the long ones
	$(PYTEST) -q -m "not long"

# What seals and opens, and so has to be right on every AES backend; all else stands on it, or beside it.
SEALING = client core hazmat hpke interop_oracle node stream threads_fork v1 \
  v2_answers v2_client v2_node v2_properties v2_records v2_reference v2_streams v2_threads v2_vectors
sealing = $(wildcard $(SEALING:%=tests/test_%*.py))
test-all: test test-c  ## all tests, those that seal and open on every AES backend, and the C harness
	$(PYTEST) -q -m long
	backends=$$($(BIN)/python -c "from atoma_crypto import hazmat; print(*hazmat.aes_backends()[1:])") || exit 1; \
	for backend in $$backends; do \
	  ATOMA_CRYPTO_AES_BACKEND=$$backend $(PYTEST) -q -m "not long" $(sealing) || exit 1; \
	done

sealing:  ## which those are
	@echo $(sealing)

# L3 to L6 whole, the rest at 90 %: the demo, the CLI and the servers talk to the world.
COVERED = _core _envelope* _errors _events _keys _offers _opener* _padding _sealer* _sse _state _typing _v2 _xwing \
  client hazmat keyring node records replay attestation/*
empty =
comma = ,
coverage: $(STAMP) $(SDK_STAMP)  ## branch coverage of the tests, and what we ask of it
	$(BIN)/python -m coverage erase
	$(PYTEST) -q -m "not long" --cov --cov-report=
	$(BIN)/python -m coverage report --fail-under=90
	$(BIN)/python -m coverage report --fail-under=100 \
	  --include=$(subst $(empty) ,$(comma),$(COVERED:%=*/atoma_crypto/%.py))

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) -C tests/c PYTHON=$(abspath $(BIN)/python) lint

types: $(STAMP)
	$(BIN)/mypy

test-c: $(STAMP)  ## the C harness, under the address and undefined-behaviour sanitizers
	$(MAKE) -C tests/c PYTHON=$(abspath $(BIN)/python) check

ct: $(STAMP)  ## constant time, and use of memory, under valgrind and MemorySanitizer
	$(MAKE) -C tests/c/ct PYTHON=$(abspath $(BIN)/python) check

counts: $(STAMP)  ## instructions of fixed operations, against those written down
	$(MAKE) -C tests/c/counts PYTHON=$(abspath $(BIN)/python) check

counts-update: $(STAMP)  ## write them down anew
	$(MAKE) -C tests/c/counts PYTHON=$(abspath $(BIN)/python) update

# FUZZ_SECONDS for each target. The corpora that grow stay in .cache; what is worth keeping is merged into the tree by hand.
FUZZ_SECONDS ?= 20
fuzz: $(STAMP)  ## every parser and every object that remembers, under libFuzzer; the sessions under atheris
	$(MAKE) -C tests/c/fuzz PYTHON=$(abspath $(BIN)/python) FUZZ_SECONDS=$(FUZZ_SECONDS) check
	$(MAKE) -C tests/fuzz PYTHON=$(abspath $(BIN)/python) FUZZ_SECONDS=$(FUZZ_SECONDS) check

fuzz-controls: $(STAMP)  ## each target finds the faults that are planted for it
	$(MAKE) -C tests/c/fuzz PYTHON=$(abspath $(BIN)/python) controls
	$(MAKE) -C tests/fuzz PYTHON=$(abspath $(BIN)/python) controls

coverage-c: $(STAMP)  ## lines of the C core that harness and fuzzers reach
	$(MAKE) -C tests/c/fuzz PYTHON=$(abspath $(BIN)/python) coverage

proofs: $(STAMP)  ## no allocation, bounded stack, exported symbols, every status, nothing left in memory
	$(MAKE) -C tests/c/proofs PYTHON=$(abspath $(BIN)/python) check

cross: $(STAMP)  ## the C core for other machines, and under other compilers and levels
	$(MAKE) -C tests/c/cross PYTHON=$(abspath $(BIN)/python) check

timing: $(STAMP)  ## a statistical look at time: reported, never judged
	$(MAKE) -C tests/c/timing PYTHON=$(abspath $(BIN)/python) report

mutants: $(STAMP)  ## whether the tests notice when the code is wrong: hours, outside of CI
	$(MAKE) -C tests/mutants PYTHON=$(abspath $(BIN)/python) check

# Everything, and every peer, so many times over. With DOCS=docs, docs/benchmarks.md and its plot are made anew.
ROUNDS ?= 5
bench: $(BENCH_STAMP) $(SDK_STAMP) $(PEERS_STAMP)  ## benchmarks beside all peers: tables, a plot and JSON in .cache/bench
	@$(MAKE) -s -C tests/c/speed PYTHON=$(abspath $(BIN)/python) build
	@$(BIN)/python benchmarks/compare.py --speed .cache/c-speed/speed --peers $(PEERS_VENV)/bin/python \
	  --sdk $(SDK_VENV)/bin/python --rounds $(ROUNDS) $(if $(DOCS),--docs $(DOCS))

bench-check: $(STAMP)  ## each benchmark once: whether what it measures is right
	$(BIN)/python -m pytest -q benchmarks --benchmark-disable

lock:  ## the locks in requirements/, made anew; UPGRADE=1 takes newer releases
	$(MAKE) -C requirements PYTHON=$(PYTHON) lock

dist: $(STAMP)  ## sdist and wheel, built twice and compared byte for byte, and what they hold
	rm -rf dist
	$(BIN)/python .ci/reproduce.py dist
	$(BIN)/python .ci/check_dist.py dist

build: $(STAMP)

# Only what the locks name, by hash, and nothing that would run code of its own to install itself.
LOCKED = -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r

$(STAMP): $(SOURCES) requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(LOCKED) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The SDK pins libraries that the rest does not: it gets an environment of its own.
$(SDK_STAMP): requirements/sdk.txt
	$(PYTHON) -m venv $(SDK_VENV)
	$(SDK_VENV)/bin/python $(LOCKED) $<
	touch $@

$(BENCH_STAMP): $(STAMP) requirements/bench.txt
	$(BIN)/python $(LOCKED) requirements/bench.txt
	touch $@

$(PEERS_STAMP): requirements/peers.txt
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python $(LOCKED) $<
	touch $@

clean:
	rm -rf $(VENV) $(SDK_VENV) $(PEERS_VENV) .cache build dist src/*.egg-info src/atoma_crypto/_native.*so

# Every target sets up what it needs in .venv; a fresh machine needs only Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
PYTEST_FLAGS ?=
# Each file as a whole to one worker, in the order of the folders: the short unit tests come last and even out the ends.
WORKERS ?= --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
CACHE ?= $(HOME)/.cache/ilmari/peers
ROUNDS ?= 10

.PHONY: demo test lint bench peers load soak clean

demo: .venv/installed          ## compile a small real model and ask it a question
	$(BIN)/ilmari demo

test: lint                     ## everything that must hold, in less than 20 minutes on 2 cores
	ILMARI_NUM_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest $(WORKERS) $(PYTEST_FLAGS)

lint: .venv/installed-test     ## style, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-test    ## the 1.8B shape against this machine's ceilings; on a quiet machine, 5 minutes
	$(BIN)/python benchmarks/shape_1_8b.py

peers: .venv/installed-test    ## beside llama.cpp and OpenVINO, each set up in CACHE; on a quiet machine, an hour
	$(BIN)/python -m benchmarks.peers.setup_llama_cpp $(CACHE)
	$(BIN)/python -m benchmarks.peers.setup_openvino $(CACHE)
	$(BIN)/python -m benchmarks.peers.setup_ilmari $(CACHE)
	$(BIN)/python -m benchmarks.peers.compare --cache $(CACHE) --rounds $(ROUNDS)
	$(CACHE)/openvino/venv/bin/python -m benchmarks.peers.plot benchmarks/results/peers_1_8b.json benchmarks/results

load: .venv/installed-test     ## the server under load, beside the peers that `make peers` set up; two hours
	$(BIN)/python -m benchmarks.serving.load --cache $(CACHE) --rounds $(ROUNDS)

soak: .venv/installed-test     ## the server under siege: 30 minutes of everything, then 6 with the engine killed 20 times
	$(BIN)/python -m benchmarks.serving.soak --cache $(CACHE) --minutes 30
	$(BIN)/python -m benchmarks.serving.soak --cache $(CACHE) --minutes 6 --kill 20

clean:
	rm -rf .venv build dist src/*.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ .venv/installed

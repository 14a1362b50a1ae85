# One place for every task; each target makes its own .venv first. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?=
STANFORD ?=
PEERS ?=
MINILM ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types bench bench-text bench-glove bench-pretrain bench-search soak docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --prefer-binary -c constraints.txt -e '.[test]'
	touch $@

demo: $(READY) ## raw text → trained model → working semantic search, offline, in three minutes
	$(BIN)/nlpkit demo

test: $(READY) ## the test suite
	$(BIN)/python -m pytest

lint: $(READY) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## static types
	$(BIN)/mypy

check: lint types test ## lint, types, then the tests (docs' commands among them): what CI runs

bench: $(READY) ## benchmarks that need no data sets
	$(BIN)/python benchmarks/startup.py

bench-text: $(READY) ## bulk text beside its peers: make bench-text DATA=folder [PEERS=python with nltk, spacy, gensim, icu]
	$(BIN)/python benchmarks/text.py --data "$(DATA)" $(if $(PEERS),--peers "$(PEERS)")
	$(BIN)/python benchmarks/tables.py

bench-glove: $(READY) ## word vectors beside Stanford's C code and gensim: make bench-glove DATA=folder STANFORD=folder [PEERS=python]
	$(BIN)/python benchmarks/glove.py --data "$(DATA)" --stanford "$(STANFORD)" $(if $(PEERS),--peers "$(PEERS)")
	$(BIN)/python benchmarks/vectors_eval.py --data "$(DATA)" $(if $(PEERS),--peers "$(PEERS)")
	$(BIN)/python benchmarks/tables.py

bench-pretrain: $(READY) ## pretraining beside transformers' Trainer and nanoGPT: make bench-pretrain DATA=folder NANOGPT=folder [PEERS=python with accelerate]
	$(BIN)/python benchmarks/pretrain.py --data "$(DATA)" --nanogpt "$(NANOGPT)" $(if $(PEERS),--peers "$(PEERS)")
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/tables.py

bench-search: $(READY) ## the search engine beside its peers: make bench-search DATA=folder MINILM=folder [PEERS=python]
	$(BIN)/python benchmarks/search.py --data "$(DATA)" --model "$(MINILM)" $(if $(PEERS),--peers "$(PEERS)")
	$(BIN)/python benchmarks/tables.py

soak: $(READY) ## the long fault programme of the search index: kills, failing writes, corruption, many readers
	$(BIN)/python tests/search/soak.py --kills 300 --queries 100000 --corruptions 1000

docs: $(READY) ## write docs/cli.md from the code
	$(BIN)/python docs/generate_cli.py

clean: ## remove the environment and caches (runs/, corpora/ and indexes/ stay)
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

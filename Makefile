# Everything happens in a virtual environment inside the tree; nothing is installed globally.
#
#   make demo    filter photographs, run a trained network, tune its layers (pictures in ./demo-output)
#   make bench   race the engines that are installed; JSON and a page in ./results
#   make test    every test, TensorFlow comparisons included
#   make test-emulated   the tests of AVX-512's kernels on a CPU with AVX2 alone
#   make lint    formatting, style and types
#   make build   bring the compiled extensions up to date
#   make clean   remove all that the others made
#
# PYTHON=/path/to/python3.x chooses the interpreter, PYTEST_ARGS, DEMO_ARGS and BENCH_ARGS are handed on.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --quiet
# The package as it installs, tuning/ being convopt.tuning: mypy does not follow the mapping of an editable install.
TYPED := $(VENV)/typed

SOURCES := setup.py $(shell find convopt -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -not -path '*/generated/*' \
	-o -path 'convopt/kernels/*.c' -not -name registry.c -not -name limits.c -o -path 'convopt/kernels/*.py')
KERNELS := $(filter convopt/kernels/%.c convopt/kernels/%.h, $(SOURCES))
CYTHON := $(filter %.pyx %.pxd, $(SOURCES))

# A package of its own, whose AVX-512 kernels run on a CPU that has AVX2 alone.
EMULATED := $(VENV)/emulated

.PHONY: demo bench test test-emulated lint build clean
.DELETE_ON_ERROR:

demo: $(VENV)/.built $(VENV)/.extras-demo
	$(VENV)/bin/convopt demo $(DEMO_ARGS)

bench: $(VENV)/.built $(VENV)/.extras-bench
	$(VENV)/bin/convopt bench $(BENCH_ARGS)
	$(VENV)/bin/convopt report

test: $(VENV)/.built $(VENV)/.extras-demo $(VENV)/.extras-test
	$(RUN) -m pytest $(PYTEST_ARGS)

test-emulated: $(EMULATED)/.built $(VENV)/.extras-test
	cd tests && PYTHONPATH=$(CURDIR)/$(EMULATED) ../$(RUN) -m pytest -m 'not slow' -k avx512 $(PYTEST_ARGS)

lint: $(VENV)/.built $(VENV)/.extras-test $(VENV)/.extras-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	PATH="$(VENV)/bin:$$PATH" $(VENV)/bin/cython-lint $(CYTHON)
	$(VENV)/bin/clang-format --dry-run -Werror $(KERNELS)
	rm -rf $(TYPED) && mkdir -p $(TYPED)/convopt && ln -s $(CURDIR)/convopt/* $(CURDIR)/tuning $(TYPED)/convopt/
	cd $(TYPED) && ../bin/mypy --config-file ../../pyproject.toml --package convopt

build: $(VENV)/.built

# The environment, with what setup.py needs to compile.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convopt needs Python 3.11 or newer; name one with PYTHON=...")'
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h") \
		and "The headers of this Python are missing (Debian: apt install python3-dev)")'
	@echo "Setting up $(VENV): a few minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'setuptools>=77' wheel 'Cython>=3.1' 'numpy>=2.0'
	@touch $@

# The package itself, editable: its Python files need no installing again, only its metadata does. This compiles as well.
$(VENV)/.installed: pyproject.toml $(VENV)/.created
	$(PIP) install --no-build-isolation --editable .
	@touch $@ $(VENV)/.built

# Sources that changed since the package was installed compile in place; the others are left alone.
$(VENV)/.built: $(SOURCES) $(VENV)/.installed
	@if [ -n "$$(find $(SOURCES) -newer $@)" ]; then \
		echo "Compiling what changed"; $(RUN) setup.py --quiet build_clib build_ext --inplace; fi
	@touch $@

# From a copy of the sources: objects of the two builds must not meet.
$(EMULATED)/.built: $(SOURCES) $(shell find convopt tuning -name '*.py') $(VENV)/.installed
	@echo "Compiling for emulation: some minutes"; rm -rf $(EMULATED); mkdir -p $(EMULATED)/source
	@tar --exclude='*.so' --exclude=generated --exclude=__pycache__ -c setup.py pyproject.toml MANIFEST.in README.md LICENSE convopt tuning \
		| tar -x -C $(EMULATED)/source
	CONVOPT_EMULATE=avx512 $(PIP) install --no-build-isolation --no-deps --target $(EMULATED) $(EMULATED)/source
	@rm -rf $(EMULATED)/source; touch $@

# What an extra of pyproject.toml asks for, beside the package that is already there.
$(VENV)/.extras-%: $(VENV)/.installed
	$(PIP) install 'convopt[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis convopt/kernels/generated
	find convopt tuning tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	find convopt -name '*.so' -delete
	find convopt -name '*.pyx' | sed 's/pyx$$/c/' | xargs rm -f

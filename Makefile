# Every target sets up what it needs: Python >= 3.11 (with venv and headers) and a C++20 compiler are enough.
#
#   make demo              train a small SSSD-ECG, sample it, write demo/report.html   (DATA=path/to/ptb-xl: on real records)
#   make test              lint, every test, the sanitizer build
#   make lint | bench | sanitize | clean
#
# PYTHON=python3.12 chooses the interpreter, ECGCORE_TORCH=2.12.0 the torch to install where there is none >= 2.11.

PYTHON ?= python3
ECGCORE_TORCH ?= 2.13.0
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
NATIVE := $(shell find cpp cuda cmake -type f 2>/dev/null) CMakeLists.txt pyproject.toml
REPORTS := build/reports
PYTEST_ARGS ?=
# Tests run in as many processes as there are cores, up to 8. In each torch has two threads, more than one everywhere,
# that sleep when there is nothing to do.
CORES := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 8 ? n : 8)))
THREADS := OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE

TORCH_OK := import torch, sys; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11))
SANITIZERS = $(shell c++ -print-file-name=libasan.so) $(shell c++ -print-file-name=libubsan.so)

.PHONY: demo test lint bench sanitize clean
.NOTPARALLEL:

demo: $(VENV)/.package
	$(VENV)/bin/ecgcore demo --out demo $(if $(DATA),--data "$(DATA)")

test: lint $(VENV)/.extras
	@mkdir -p $(REPORTS)
	$(THREADS) $(PY) -m pytest -n $(CORES) --dist worksteal --junitxml=$(REPORTS)/tests.xml $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory sanitize

lint: $(VENV)/.extras
	$(PY) -m ruff check python tests bench
	$(PY) -m ruff format --check python tests bench
	$(PY) -m mypy
	find cpp cuda tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(VENV)/bin/clang-format --dry-run -Werror

bench: $(VENV)/.extras
	KINETO_LOG_LEVEL=5 $(PY) bench/ops.py $(ARGS)

# The native module under AddressSanitizer and UndefinedBehaviorSanitizer, through the tests of the ops and of the
# formulas. -S keeps the editable install out of the way: it would be found first. The test processes get it from --tx.
# The other backends run nothing of it. The float64 limits, a few roundings wide, are those of the optimised build: -O1
# contracts other products.
# Where sources and tests are as they were when it last passed, that run and its report stand.
sanitize: build/sanitize/.passed
	@echo "sanitizers: passed, $(REPORTS)/sanitizer.xml"

build/sanitize/.passed: build/sanitize/.installed Makefile $(shell find tests/*.py tests/ops tests/native -name '*.py')
	@mkdir -p $(REPORTS)
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONPATH=build/sanitize/site:$(shell $(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'):$(shell $(PY) -c 'import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])') \
	$(THREADS) $(PY) -S -m pytest tests/ops tests/native -m "not slow and not no_sanitizer" -p no:cacheprovider -q \
	  --tx "$(CORES)*popen//python=$(PY) -S" --dist worksteal \
	  -k "not keops and not reference- and not (test_error_is_within_twice_the_references_own and f64)" \
	  --junitxml=$(REPORTS)/sanitizer.xml
	@touch $@

build/sanitize/.installed: $(VENV)/.extras $(NATIVE) $(shell find python -name '*.py')
	@rm -rf build/sanitize/site
	ECGCORE_CUDA=off $(PIP) --no-build-isolation --no-deps --target build/sanitize/site . \
	  -C build-dir=build/sanitize/build -C cmake.build-type=RelWithDebInfo -C install.strip=false \
	  -C cmake.define.ECGCORE_SANITIZE=ON
	@touch $@

# torch first and by itself, so that nothing ever pulls another one.
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "ecgcore needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@if $(PYTHON) -c '$(TORCH_OK)' 2>/dev/null; then $(PYTHON) -m venv --system-site-packages $(VENV); else $(PYTHON) -m venv $(VENV); fi
	@$(PY) -c '$(TORCH_OK)' 2>/dev/null || $(PIP) "torch==$(ECGCORE_TORCH)"
	@$(PY) -c '$(TORCH_OK)' && touch $@

$(VENV)/.package: $(VENV)/.torch $(NATIVE)
	$(PIP) "scikit-build-core>=0.11" "pybind11>=2.13" "cmake>=3.24" ninja
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.extras: $(VENV)/.package pyproject.toml
	$(PIP) "ecgcore[test]"
	@touch $@

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis python/ecgcore/_C*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

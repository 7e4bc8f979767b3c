# `make demo` and `make test` work from a fresh clone; `make help` lists everything.

# A python given on the command line or in the environment is the only one tried.
PYTHON_CANDIDATES = $(or $(PYTHON),python3.12 python3.11 python3.13 python3.10 python3)
CLASSIC_PYTHON_CANDIDATES = $(or $(CLASSIC_PYTHON),python3.11 python3.10 python3.9 python3)

DEMO_CONFIG ?= train/configs/digits_attennorm.py
DEMO_DIR ?= runs/demo
DEMO_FLAGS ?=
INPAINTING_CONFIG ?= train/configs/inpainting_photographs.py
INPAINTING_DIR ?= runs/demo-inpainting
# Processes of one test run. TensorFlow uses every core by itself, but most tests are small: two halve the time.
TEST_PROCESSES ?= 2
TEST_FLAGS ?=
CLASSIC_MARKS ?= not once
# Names of benchmarks, all by default (python -m benchmarks --list); BENCH_FLAGS=--quick: the short form of each.
BENCH ?=
BENCH_FLAGS ?=
NOTEBOOKS ?= $(sort $(wildcard notebooks/*.ipynb))
NOTEBOOKS_FLAGS ?=
UV ?= .venv/bin/uv
LOCK_FLAGS ?=

# A stamp's name carries the checksum of what was installed: a changed lock has another name and so is installed anew,
# and an interrupted installation leaves no stamp.
checksum = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
CURRENT := .venv/.dependencies-$(call checksum,requirements/build.txt requirements/current.txt)
CLASSIC := .venv-classic/.dependencies-$(call checksum,requirements/build.txt requirements/classic.txt)
PACKAGE := .package-$(shell (pwd; cat setup.cfg pyproject.toml) | cksum | cut -d ' ' -f 1)

# $(call find_python,CANDIDATES,FIRST,LAST): prints the first candidate that runs, is a Python 3.FIRST to 3.LAST and
# can make an environment. (On PATH is not enough: a version manager's stand-in may refuse to run.)
find_python = for python in $(1); do "$$python" -c 'import ensurepip, sys, venv; \
	sys.exit(not (3, $(2)) <= sys.version_info[:2] <= (3, $(3)))' > /dev/null 2>&1 && echo "$$python" && exit; done; exit 1

# Python compiles a module when it is first imported: a third of the time goes by if pip compiles them all.
PIP_FLAGS = -qq --disable-pip-version-check --no-compile
# $(call install_dependencies,ENVIRONMENT,LOCK): expects the shell variable `python`.
define install_dependencies
echo "Installing the pinned packages of requirements/$(2).txt into $(1) (once: a download of about 1 GB, some minutes)"; \
rm -rf $(1) && "$$python" -m venv $(1) && \
$(1)/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements/build.txt && \
$(1)/bin/python -m pip install $(PIP_FLAGS) --require-hashes --no-build-isolation -r requirements/$(2).txt
endef
install_package = $(1)/bin/python -m pip install $(PIP_FLAGS) --no-deps --no-index --no-build-isolation -e .

# $(call run_pytest,ENVIRONMENT,NAME,MARK EXPRESSION): a file's tests go to one process, which sets up what they share once.
run_pytest = $(1)/bin/python -m pytest -m $(3) --durations=10 --junitxml=.test-results/$(2).xml \
	$(if $(filter-out 0 1,$(TEST_PROCESSES)),-n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder) $(TEST_FLAGS)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install demo demo-inpainting notebooks test lint types test-current test-classic bench docs wheel lock clean distclean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

$(CURRENT):
	@python=$$($(call find_python,$(PYTHON_CANDIDATES),10,13)) || { \
		echo "No working Python 3.10 to 3.13 with venv (tried: $(PYTHON_CANDIDATES)). Name one: make PYTHON=/path/to/python" >&2; \
		exit 1; }; \
	$(call install_dependencies,.venv,current)
	@touch $@

$(CLASSIC):
	@python=$$($(call find_python,$(CLASSIC_PYTHON_CANDIDATES),9,11)) || exit 1; \
	$(call install_dependencies,.venv-classic,classic)
	@touch $@

.venv/$(PACKAGE): | $(CURRENT)
	@$(call install_package,.venv)
	@touch $@

.venv-classic/$(PACKAGE): | $(CLASSIC)
	@$(call install_package,.venv-classic)
	@touch $@

install: .venv/$(PACKAGE)  ## make .venv with the pinned packages and this one, editable
	@echo ".venv is ready"

# $(call train,MODULE,CONFIG,FOLDER): a finished run is kept under another name; an interrupted one goes on.
define train
@if [ -e $(3)/report.json ]; then \
	kept=$(3)-$$(date +%Y%m%d-%H%M%S); mv $(3) $$kept; echo "The last demo is now $$kept"; fi
@.venv/bin/python -m $(1) --config=$(2) --workdir=$(3) $(DEMO_FLAGS)
endef

demo: .venv/$(PACKAGE)  ## train the default experiment on real digits and show what it made
	$(call train,train.gan,$(DEMO_CONFIG),$(DEMO_DIR))

demo-inpainting: .venv/$(PACKAGE)  ## train an inpainting network on a few photographs and show what it fills in
	$(call train,train.inpainting,$(INPAINTING_CONFIG),$(INPAINTING_DIR))

notebooks: .venv/$(PACKAGE)  ## run notebooks/ from nothing into build/notebooks (NOTEBOOKS_FLAGS=--in_place: keep the outputs)
	.venv/bin/python notebooks/execute.py $(NOTEBOOKS_FLAGS) $(NOTEBOOKS)

test:  ## lint, types, and all tests on both stacks; goes on after a failure, and fails if anything did
	@$(MAKE) --no-print-directory --keep-going lint types test-current test-classic

lint: .venv/$(PACKAGE)  ## ruff: rules and format
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .

types: .venv/$(PACKAGE)  ## mypy
	.venv/bin/python -m mypy

test-current: .venv/$(PACKAGE)  ## doctests and tests on the current stack
	$(call run_pytest,.venv,current,"not legacy")

test-classic:  ## the same on the classic stack, with the legacy tests, but for those marked once (CLASSIC_MARKS="once or not once": all)
	@if [ -e $(CLASSIC) ] || ($(call find_python,$(CLASSIC_PYTHON_CANDIDATES),9,11)) > /dev/null; then \
		$(MAKE) --no-print-directory .venv-classic/$(PACKAGE) && echo 'The classic stack: the same tests but for those marked once, and the legacy ones' && \
		$(call run_pytest,.venv-classic,classic,"(legacy or not legacy) and ($(CLASSIC_MARKS))"); \
	else echo "No Python 3.9 to 3.11 (tried: $(CLASSIC_PYTHON_CANDIDATES)): the classic stack was not tested"; fi

bench: .venv/$(PACKAGE)  ## benchmarks/results/*: all benchmarks (hours), or BENCH="layer ..."; BENCH_FLAGS=--quick tries them
	.venv/bin/python -m benchmarks $(BENCH_FLAGS) $(BENCH)

docs: .venv/$(PACKAGE)  ## build the documentation into site/; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
	@echo "site/index.html is its first page"

wheel: .venv/$(PACKAGE)  ## build dist/*.whl and dist/*.tar.gz
	rm -rf build
	.venv/bin/python -m build --no-isolation

lock:  ## resolve requirements/*.txt again, keeping versions where possible (LOCK_FLAGS=--upgrade: the newest)
	$(call lock_command,3.9) requirements/build.in -o requirements/build.txt
	$(call lock_command,3.10) setup.cfg requirements/current.in --extra data --extra evaluation --extra serving --extra demo \
		--extra test --extra notebooks --extra docs --extra dev -o requirements/current.txt
	$(call lock_command,3.9) setup.cfg requirements/classic.in --extra classic --extra data --extra evaluation \
		--extra serving_classic --extra test -o requirements/classic.txt
lock_command = $(UV) pip compile --quiet --universal --python-version $(1) --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(LOCK_FLAGS)

clean:  ## remove what builds and tests leave behind (never runs/)
	rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .test-results
	find attennorm_tf train tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2> /dev/null || true

distclean: clean  ## and both environments
	rm -rf .venv .venv-classic

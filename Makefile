# Each target installs what it needs; uv itself comes from the package index when it is missing.
.PHONY: help run test test-compiled check docs generate fuzz bench soak e2e kind release
UV := $(shell command -v uv || echo .uv/bin/uv)
SYSTEM_PYTHON := $(shell test -x /usr/bin/python3 && echo --python /usr/bin/python3)
RUN := $(UV) run --frozen --quiet
# Most tests wait, for API servers and clocks, so two files at once; each process has an API server of its own.
# In the order of their names: the files that take longest have few tests, and would come last by number.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
# What has failed beside others is tried once more by itself, and said: what fails twice is broken.
AGAIN = { echo "What failed is tried once more, by itself." >&2; $(1) --last-failed --last-failed-no-failures none; }

help:  ## these targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "%-14s %s\n", $$1, $$2}'

run: .venv/installed  ## an example server behind the sidecar, and what that brings, in your terminal
	@$(RUN) python examples/tour.py

test: .venv/installed  ## everything but real pods: a real Redis, a real API server
	@$(RUN) python -m tools.cluster.requirements test
	@$(RUN) python -m tools.packages.install
	@$(RUN) python -m tools.cluster.binaries kube-apiserver kube-controller-manager kubectl helm prometheus promtool kind >/dev/null
	@$(RUN) pytest tests --ignore=tests/e2e $(TWO) || $(call AGAIN,$(RUN) pytest tests --ignore=tests/e2e)

# Of the operator, the chart, the command line and the page nothing is compiled, so what tests these is left out.
COMPILED := $(addprefix tests/,clients conformance redis hostile fuzz cli/test_installed.py wire unit/sidecar)
test-compiled: .compiled  ## the sidecar's tests against the compiled form, as the images ship it
	@$(RUN) python -m tools.packages.install
	@.venv-compiled/bin/python -m pytest $(COMPILED) $(TWO) || \
	  $(call AGAIN,.venv-compiled/bin/python -m pytest $(COMPILED))

check: .venv/installed  ## style, types, import contracts, generated files, the pages
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@$(RUN) lint-imports --no-logo
	@$(RUN) python -m tools.generate --check
	@$(MAKE) --no-print-directory docs

docs: .venv/installed  ## the documentation as a site, in site/; fails on what leads nowhere or is not documented
	@$(RUN) sphinx-build -W --keep-going --quiet --fresh-env -b html docs site
	@$(RUN) pytest --quiet $(addprefix tests/house/test_,docs.py emitted.py generated.py)

generate: .venv/installed  ## what follows from models and tables: CRD, reference, the chart's schema, README and dashboards
	@$(RUN) python -m tools.generate

# SURFACES="heads pages" are fewer than all; what is found is kept in tests/fuzz/corpus, and fails `make test`.
fuzz: SECONDS ?= 600
fuzz: .venv-fuzz/installed  ## ten minutes of hostile bytes to everything that reads a stranger's, guided by coverage
	@.venv-fuzz/bin/python -m tests.fuzz $(SECONDS) $(SURFACES)

# BENCH="--rounds 1 --seconds 1" makes it short, BENCH=--write writes docs/performance.md; a thousand servers
# take ten minutes, SERVERS=100 two. BASE=COMMIT measures this commit beside that one, or several, and nothing else.
SERVERS ?= 1000
bench: .compiled .venv-bench/installed  ## the sidecar beside nginx and Envoy, how its cost grows, many servers at once
ifdef BASE
	@.venv-bench/bin/python benchmarks/against.py --compiled .venv-compiled/bin/python --base $(BASE) $(BENCH)
else
	@$(RUN) python -m tools.cluster.binaries kube-apiserver kube-controller-manager kube-scheduler kubectl kwok >/dev/null
	@$(RUN) python -m tools.packages.install --yardsticks
	@for each in proxy latency growth anatomy longest stdio sessions flood; do \
	  .venv-bench/bin/python benchmarks/$$each.py --compiled .venv-compiled/bin/python $(BENCH) || exit 1; done
	@.venv-bench/bin/python benchmarks/thousand.py --servers $(SERVERS) $(filter --write,$(BENCH))
	@test "$$(id -u)" != 0 || $(RUN) python -m tools.cluster.requirements e2e
	@.venv-bench/bin/python benchmarks/firstcall.py $(BENCH)
endif

# In less than ten minutes each, repetitions are left out.
soak: SECONDS ?= 600
soak: .compiled .venv-bench/installed  ## ten minutes of all kinds of call, ten of hostile clients, repetitions in full
	@.venv-bench/bin/python benchmarks/soak.py --compiled .venv-compiled/bin/python --seconds $(SECONDS) \
	  $(filter --write,$(BENCH))
	@.venv-bench/bin/python benchmarks/hostile.py --compiled .venv-compiled/bin/python --seconds $(SECONDS) \
	  $(filter --write,$(BENCH))
	@test $(SECONDS) -lt 600 || MCPACE_REPEAT=1 $(RUN) pytest tests -m repeated

e2e: .venv/installed  ## real pods on a real Kubernetes in a namespace of its own (root)
	@$(RUN) python -m tools.cluster.requirements e2e
	@$(RUN) python -m tools.cluster e2e tests/e2e

kind: .venv/installed  ## the whole way on a local cluster: create, build, load, install, apply, call, delete (Docker, kind)
	@$(RUN) python examples/kind.py

# WITHOUT="compiled images" leaves out what takes minutes, BASE= names another base of the images; PUBLISH=1 commits
# and tags, and says what would push.
release: .venv/installed  ## all of a release in dist/VERSION, such as VERSION=1.2.3; nothing is tagged or pushed
	@$(RUN) python -m tools.release "$$VERSION" $(addprefix --without=,$(WITHOUT)) $(if $(filter 1,$(PUBLISH)),--publish)

.venv/installed: pyproject.toml uv.lock $(UV)
	@echo "Installing the Python dependencies ..."
	@$(UV) sync --frozen --quiet && touch $@

# With the system's interpreter, built with profile-guided optimisation as the images' is.
.venv-bench/installed: pyproject.toml uv.lock $(UV)
	@UV_PROJECT_ENVIRONMENT=.venv-bench $(UV) sync --frozen --quiet --group bench $(SYSTEM_PYTHON) && touch $@

.venv-fuzz/installed: pyproject.toml uv.lock $(UV)
	@UV_PROJECT_ENVIRONMENT=.venv-fuzz $(UV) sync --frozen --quiet --group fuzz && touch $@

SOURCES := $(shell find sidecar operator cli -type f ! -name '*.pyc') compile.py pyproject.toml uv.lock
.PHONY: .compiled
.compiled: .venv/installed .venv-compiled/built
	@$(RUN) python -m tools.cluster.requirements bench

.venv-compiled/built: $(SOURCES) $(UV)
	@UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=.venv-compiled $(UV) sync --frozen --quiet --no-install-project \
	  $(SYSTEM_PYTHON)
	@echo "Compiling the data path ..."
	@rm -rf .venv-compiled/wheels
	@MCPACE_COMPILE=1 $(UV) build --quiet --wheel --python .venv-compiled/bin/python --out-dir .venv-compiled/wheels
	@UV_COMPILE_BYTECODE=1 $(UV) pip install --quiet --python .venv-compiled/bin/python --no-deps --no-cache --reinstall .venv-compiled/wheels/*.whl
	@touch $@

.uv/bin/uv:
	@echo "Installing uv ..."
	@python3 -m venv .uv 2>/dev/null || { rm -rf .uv; [ "$$(id -u)" = 0 ] && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null && python3 -m venv .uv; } || \
	  { rm -rf .uv; echo "python3 has no venv; as root: apt-get install python3-venv" >&2; exit 1; }
	@.uv/bin/pip install --quiet uv==0.13.9

# Each target installs what it needs; uv itself comes from the package index when it is missing.
.PHONY: run test test-compiled check bench e2e kind
UV := $(shell command -v uv || echo .uv/bin/uv)
SYSTEM_PYTHON := $(shell test -x /usr/bin/python3 && echo --python /usr/bin/python3)
RUN := $(UV) run --frozen --quiet

run: .venv/installed  ## an example server behind the sidecar, and what that brings, in your terminal
	@$(RUN) python examples/tour.py

test: .venv/installed  ## everything but real pods: a real Redis, a real API server
	@$(RUN) python -m tests.cluster.requirements test
	@$(RUN) python -m tests.packages.install
	@$(RUN) python -m tests.cluster.binaries kube-apiserver kube-controller-manager kubectl helm promtool kind >/dev/null
	@$(RUN) pytest tests --ignore=tests/e2e

test-compiled: .venv/installed  ## the sidecar's tests against its compiled form, as the images ship it
	@$(RUN) python -m tests.cluster.requirements bench
	@UV_PROJECT_ENVIRONMENT=.venv-compiled $(UV) sync --frozen --quiet --no-install-project $(SYSTEM_PYTHON)
	@echo "Compiling the data path ..."
	@MCPACE_COMPILE=1 $(UV) pip install --quiet --python .venv-compiled/bin/python --no-deps --no-cache --reinstall .
	@.venv-compiled/bin/python -m pytest tests/sidecar tests/integration/test_[b-k]*.py tests/integration/test_le*.py \
	  tests/integration/test_lo*.py tests/integration/test_[p-w]*.py tests/conformance

check: .venv/installed  ## style, types, import contracts, generated files
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@$(RUN) lint-imports --no-logo
	@$(RUN) python -m mcpace_operator.crd --check
	@$(RUN) python -m mcpace_cli.reference --check
	@$(RUN) python charts/values.py --check

# With the system's interpreter, built with profile-guided optimisation as the images' is. BENCH="--rounds 1 --seconds 1"
# makes it short, BENCH=--write writes docs/performance.md; the soak takes ten minutes all the same, and so do a
# thousand servers: SERVERS=250 takes three.
SERVERS ?= 1000
bench: .venv/installed  ## the sidecar beside nginx and Envoy, how its cost grows, ten minutes of all, many servers at once
	@$(RUN) python -m tests.cluster.requirements bench
	@UV_PROJECT_ENVIRONMENT=.venv-bench $(UV) sync --frozen --quiet --group bench $(SYSTEM_PYTHON)
	@UV_PROJECT_ENVIRONMENT=.venv-compiled $(UV) sync --frozen --quiet --no-install-project $(SYSTEM_PYTHON)
	@$(RUN) python -m tests.cluster.binaries kube-apiserver kube-controller-manager kube-scheduler kubectl kwok >/dev/null
	@echo "Compiling the data path ..."
	@MCPACE_COMPILE=1 $(UV) pip install --quiet --python .venv-compiled/bin/python --no-deps --no-cache --reinstall .
	@for each in proxy latency growth anatomy; do \
	  .venv-bench/bin/python benchmarks/$$each.py --compiled .venv-compiled/bin/python $(BENCH) || exit 1; done
	@.venv-bench/bin/python benchmarks/soak.py --compiled .venv-compiled/bin/python $(filter --write,$(BENCH))
	@.venv-bench/bin/python benchmarks/thousand.py --servers $(SERVERS) $(filter --write,$(BENCH))
	@test "$$(id -u)" != 0 || $(RUN) python -m tests.cluster.requirements e2e
	@.venv-bench/bin/python benchmarks/firstcall.py $(BENCH)

e2e: .venv/installed  ## real pods on a real Kubernetes in a namespace of its own (root)
	@$(RUN) python -m tests.cluster.requirements e2e
	@$(RUN) python -m tests.cluster e2e tests/e2e

kind: .venv/installed  ## the whole way on a local cluster: create, build, load, install, apply, call, delete (Docker, kind)
	@$(RUN) python examples/kind.py

.venv/installed: pyproject.toml uv.lock $(UV)
	@echo "Installing the Python dependencies ..."
	@$(UV) sync --frozen --quiet && touch $@

.uv/bin/uv:
	@echo "Installing uv ..."
	@python3 -m venv .uv 2>/dev/null || { rm -rf .uv; [ "$$(id -u)" = 0 ] && apt-get -qq update && \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null && python3 -m venv .uv; } || \
	  { rm -rf .uv; echo "python3 has no venv; as root: apt-get install python3-venv" >&2; exit 1; }
	@.uv/bin/pip install --quiet uv==0.13.9

"""What the sidecar costs a call, beside nginx and Envoy, in one run.

nginx and Envoy (one worker, keep-alive upstream) only forward. The sidecar, in pure Python and
compiled, has limits, cache, metrics and admission on. All stand in front of the same upstream.
Whoever is measured has one core; the load generator, the upstream and Redis share the other.
Windows alternate; medians are printed, and of the ratios to nginx within each round.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
UPSTREAM, NGINX, ENVOY, REDIS = 19600, 19601, 19602, 19603
PROXY_CORE, LOAD_CORE = "0", "1"

CONFIG = """
rateLimits:
  tiers: [{name: bench, requestsPerMinute: 1000000, requestsPerDay: 1000000000}]
cache:
  tools: [{name: cached, ttl: 1h, scope: shared}]
"""

NGINX_CONF = """
daemon off; worker_processes 1; pid %(dir)s/nginx.pid; error_log %(dir)s/error.log;
events { worker_connections 8192; }
http {
  access_log off; client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy;
  fastcgi_temp_path %(dir)s/f; uwsgi_temp_path %(dir)s/u; scgi_temp_path %(dir)s/s;
  keepalive_requests 100000000;
  upstream server { server 127.0.0.1:%(upstream)d; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:%(port)d;
    location / { proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""

HCM = "envoy.extensions.filters.network.http_connection_manager"
ENVOY_CONF = """
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %(port)d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/%(hcm)s.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: server}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: server
    connect_timeout: 1s
    load_assignment:
      cluster_name: server
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %(upstream)d}}}
"""


@dataclass
class Contender:
    """Who is measured: its port, its process, and how long it took to listen."""

    port: int
    pid: int
    ready: float = 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="windows of each measurement")
    parser.add_argument("--seconds", type=int, default=3, help="length of a window")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument(
        "--compiled", type=Path, help="a Python whose mcpace was built with MCPACE_COMPILE=1"
    )
    parser.add_argument("--svg", type=Path, help="write a picture of the results")
    options = parser.parse_args()
    builds = {"python": Path(sys.executable)}
    if options.compiled:
        builds["compiled"] = options.compiled
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        running = contenders(folder, builds, stack)
        rates: dict[str, list[float]] = {}
        memory: dict[str, float] = {}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for what, (contender, tool) in measurements(running, builds).items():
                rates.setdefault(what, []).append(load(contender, tool, options))
            for build in builds:
                memory[build] = max(memory.get(build, 0), rss(running[build].pid))
    results = []
    for what, measured in rates.items():
        ratio = statistics.median(
            m / n for m, n in zip(measured, rates["nginx, pass-through"], strict=True)
        )
        results.append((what, statistics.median(measured), ratio))
    for what, rate, ratio in results:
        print(f"{what:42} {rate:9.0f} calls/s    {ratio:.2f}")
    for build in builds:
        print(f"{build}: resident {memory[build]:.1f} MB, ready after {running[build].ready:.2f} s")
    print(f"CPython {platform.python_version()} ({sys.base_prefix})")
    if options.svg:
        options.svg.write_text(picture(results))


def measurements(
    running: dict[str, Contender], builds: dict[str, Path]
) -> dict[str, tuple[Contender, str]]:
    """What is measured, in order: name -> (who, which tool)."""
    rows = {"nginx, pass-through": (running["nginx"], "plain")}
    if "envoy" in running:
        rows["Envoy, pass-through"] = (running["envoy"], "plain")
    for build in builds:
        who = running[build]
        rows[f"mcpace {build}, pass-through"] = (who, "plain")
        rows[f"mcpace {build}, unique traceparent"] = (who, "plain unique")
        rows[f"mcpace {build}, cache hit"] = (who, "cached")
        rows[f"mcpace {build}, one event"] = (who, "events")
        rows[f"mcpace {build}, leased limits in Redis"] = (running[f"{build} leased"], "plain")
        rows[f"mcpace {build}, exact limits in Redis"] = (running[f"{build} exact"], "plain")
    return rows


def picture(results: list[tuple[str, float, float]]) -> str:
    """The results as bars."""
    longest = max(rate for _, rate, _ in results)
    rows = []
    for number, (words, rate, ratio) in enumerate(results):
        y, width = 34 + 28 * number, 330 * rate / longest
        colour = "#2f6fde" if words.startswith("mcpace") else "#8a8f98"
        rows.append(
            f'<text x="270" y="{y + 14}" text-anchor="end">{words}</text>'
            f'<rect x="280" y="{y}" width="{width:.0f}" height="19" rx="3" fill="{colour}"/>'
            f'<text x="{288 + width:.0f}" y="{y + 14}">{rate / 1000:.0f}k/s ({ratio:.2f})</text>'
        )
    height = 44 + 28 * len(results)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{height}"'
        ' font-family="sans-serif" font-size="13">'
        f'<rect width="740" height="{height}" fill="white"/>'
        '<text x="10" y="20" font-weight="bold">'
        "tools/call of 200 bytes, 1 KiB answers, one core each</text>" + "".join(rows) + "</svg>\n"
    )


def contenders(folder: Path, builds: dict[str, Path], stack: ExitStack) -> dict[str, Contender]:
    """Start everything; it ends with the stack."""
    upstream = folder / "upstream"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", upstream, HERE / "upstream.c"], check=True)
    stack.enter_context(started(LOAD_CORE, [upstream, UPSTREAM]))
    redis = ["redis-server", "--port", REDIS, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    stack.enter_context(started(LOAD_CORE, redis))
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    running = {}
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF % {"dir": folder, "upstream": UPSTREAM, "port": NGINX})
    nginx = stack.enter_context(started(PROXY_CORE, ["nginx", "-p", folder, "-c", conf]))
    wait_for(f"http://127.0.0.1:{NGINX}/")
    worker = subprocess.run(["pgrep", "-P", str(nginx.pid)], check=True, capture_output=True, text=True)
    running["nginx"] = Contender(NGINX, int(worker.stdout.split()[0]))
    envoy = Path(sys.executable).parent / "envoy"
    if envoy.exists():
        conf = folder / "envoy.yaml"
        conf.write_text(ENVOY_CONF % {"upstream": UPSTREAM, "port": ENVOY, "hcm": HCM})
        command = [envoy, "-c", conf, "--concurrency", 1, "--log-level", "off"]
        process = stack.enter_context(started(PROXY_CORE, command))
        wait_for(f"http://127.0.0.1:{ENVOY}/")
        running["envoy"] = Contender(ENVOY, process.pid)
    port = 19610
    for build, python in builds.items():
        program = python.parent / "mcpace"
        for kind in ("", " leased", " exact"):
            data, admin, port = port, port + 1, port + 2
            command = [
                program, "sidecar", "--config", config, "--listen", f"127.0.0.1:{data}",
                "--admin-listen", f"127.0.0.1:{admin}", "--upstream", f"http://127.0.0.1:{UPSTREAM}",
            ]  # fmt: skip
            if kind == " exact":
                command = [python, HERE / "exact.py", config, data, admin, UPSTREAM]
            environment = {"MCPACE_LIMITS_URL": f"redis://127.0.0.1:{REDIS}"} if kind else {}
            began = time.perf_counter()
            process = stack.enter_context(started(PROXY_CORE, command, environment))
            wait_for(f"http://127.0.0.1:{admin}/healthz")
            running[build + kind] = Contender(data, process.pid, time.perf_counter() - began)
    return running


@contextmanager
def started(
    core: str, command: list[object], environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program pinned to a core."""
    words = ["taskset", "-c", core, *map(str, command)]
    process = subprocess.Popen(
        words, env=os.environ | (environment or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    """Wait until something answers, whatever it says."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise SystemExit(f"{url} does not answer")


def load(contender: Contender, tool: str, options: argparse.Namespace) -> float:
    """Run one window; return calls a second. Ends the run if any call failed."""
    target = f"http://127.0.0.1:{contender.port}/mcp"
    command = [
        "taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s",
        "-s", HERE / "call.lua", target, "--", *tool.split(),
    ]  # fmt: skip
    before, began = cpu(contender.pid), time.perf_counter()
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    busy = (cpu(contender.pid) - before) / (time.perf_counter() - began)
    result = next(line for line in output.splitlines() if line.startswith("RESULT"))
    requests, microseconds, errors = map(int, result.split()[1:])
    if errors:
        raise SystemExit(f"{errors} of {requests} calls failed:\n{output}")
    rate = requests / microseconds * 1e6
    print(f"  port {contender.port} {tool}: {rate:.0f}/s, core {busy:.0%}", file=sys.stderr)
    return rate


def cpu(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()

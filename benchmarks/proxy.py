"""What the sidecar costs a call, beside nginx, in one run.

nginx (one worker, keep-alive upstream) and the sidecar (limits, cache, metrics and admission
on) stand in front of the same upstream. Each has one core, the load generator and the
upstream share the other. Windows alternate; medians and their ratios are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
UPSTREAM, NGINX, DATA, ADMIN = 19600, 19601, 19602, 19603
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="windows of each contender")
    parser.add_argument("--seconds", type=int, default=3, help="length of a window")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--svg", type=Path, help="write a picture of the results")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        contenders(Path(folder)) as (nginx, sidecar, ready),
    ):
        rates: dict[str, list[float]] = {"nginx": [], "pass": [], "hit": []}
        resident = []
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            rates["nginx"].append(load(NGINX, "plain", options, nginx))
            rates["pass"].append(load(DATA, "plain", options, sidecar))
            rates["hit"].append(load(DATA, "cached", options, sidecar))
            resident.append(rss(sidecar))
    yardstick = statistics.median(rates["nginx"])
    results = [("nginx, pass-through", yardstick, 1.0)]
    for name, words in (("pass", "mcpace, pass-through"), ("hit", "mcpace, cache hit")):
        rate = statistics.median(rates[name])
        ratio = statistics.median(m / n for m, n in zip(rates[name], rates["nginx"], strict=True))
        results.append((words, rate, ratio))
    for words, rate, ratio in results:
        print(f"{words:22} {rate:9.0f} calls/s    {ratio:.2f}")
    print(f"resident memory of the sidecar {max(resident):7.1f} MB")
    print(f"listening after                {ready:7.2f} s")
    print(f"CPython {platform.python_version()} ({sys.base_prefix})")
    if options.svg:
        options.svg.write_text(picture(results))


def picture(results: list[tuple[str, float, float]]) -> str:
    """The results as bars."""
    longest = max(rate for _, rate, _ in results)
    rows = []
    for number, (words, rate, ratio) in enumerate(results):
        y, width = 34 + 36 * number, 380 * rate / longest
        colour = "#8a8f98" if number == 0 else "#2f6fde"
        rows.append(
            f'<text x="170" y="{y + 17}" text-anchor="end">{words}</text>'
            f'<rect x="180" y="{y}" width="{width:.0f}" height="24" rx="3" fill="{colour}"/>'
            f'<text x="{188 + width:.0f}" y="{y + 17}">{rate / 1000:.0f}k/s ({ratio:.2f})</text>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="700" height="150"'
        ' font-family="sans-serif" font-size="13">'
        '<rect width="700" height="150" fill="white"/>'
        '<text x="10" y="20" font-weight="bold">'
        "tools/call of 200 bytes, 1 KiB answers, one core each</text>" + "".join(rows) + "</svg>\n"
    )


@contextmanager
def contenders(folder: Path) -> Iterator[tuple[int, int, float]]:
    """Start everything; yield the pids of nginx's worker and the sidecar, and its time to listen."""
    upstream = folder / "upstream"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", upstream, HERE / "upstream.c"], check=True)
    (folder / "config.yaml").write_text(CONFIG)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF % {"dir": folder, "upstream": UPSTREAM, "port": NGINX})
    mcpace = shutil.which("mcpace") or str(Path(sys.executable).parent / "mcpace")
    processes = []
    try:
        processes.append(start(LOAD_CORE, [upstream, str(UPSTREAM)]))
        processes.append(start(PROXY_CORE, ["nginx", "-p", folder, "-c", conf]))
        began = time.perf_counter()
        processes.append(
            start(
                PROXY_CORE,
                [
                    mcpace,
                    "sidecar",
                    "--config",
                    folder / "config.yaml",
                    "--listen",
                    f"127.0.0.1:{DATA}",
                    "--admin-listen",
                    f"127.0.0.1:{ADMIN}",
                    "--upstream",
                    f"http://127.0.0.1:{UPSTREAM}",
                ],
            )
        )
        wait_for(f"http://127.0.0.1:{ADMIN}/healthz")
        ready = time.perf_counter() - began
        wait_for(f"http://127.0.0.1:{NGINX}/")
        worker = subprocess.run(
            ["pgrep", "-P", str(processes[1].pid)], check=True, capture_output=True, text=True
        )
        yield int(worker.stdout.split()[0]), processes[2].pid, ready
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def start(core: str, command: list[object]) -> subprocess.Popen[bytes]:
    """Start a program pinned to a core."""
    return subprocess.Popen(["taskset", "-c", core, *map(str, command)], stderr=subprocess.DEVNULL)


def wait_for(url: str) -> None:
    """Wait until something answers, whatever it says."""
    deadline = time.monotonic() + 10
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


def load(port: int, tool: str, options: argparse.Namespace, pid: int) -> float:
    """Run one window; return calls a second. Ends the run if any call failed."""
    target = f"http://127.0.0.1:{port}/mcp"
    command = [
        "taskset",
        "-c",
        LOAD_CORE,
        "wrk",
        "-t1",
        f"-c{options.connections}",
        f"-d{options.seconds}s",
    ]
    command += ["-s", HERE / "call.lua", target, "--", tool]
    before, began = cpu(pid), time.perf_counter()
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    busy = (cpu(pid) - before) / (time.perf_counter() - began)
    result = next(line for line in output.splitlines() if line.startswith("RESULT"))
    requests, microseconds, errors = map(int, result.split()[1:])
    if errors:
        raise SystemExit(f"{errors} of {requests} calls failed:\n{output}")
    print(
        f"  port {port} {tool}: {requests / microseconds * 1e6:.0f}/s, core {busy:.0%}",
        file=sys.stderr,
    )
    return requests / microseconds * 1e6


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

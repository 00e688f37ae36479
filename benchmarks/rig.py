"""What benchmarks stand on: yardsticks and sidecars, each on a core of its own, and load.

nginx and Envoy (one worker, keep-alive upstream) only forward. The sidecar has limits, cache,
metrics and admission on. Whoever is measured has one core; the load generator, the upstream and
Redis share the other.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import resource
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
from typing import Self

from load import calls_of, load_command
from yardsticks import ENVOY_CONF, HCM, NGINX_CONF

HERE = Path(__file__).parent
UPSTREAM, NGINX, ENVOY, REDIS, SESSIONS = 19600, 19601, 19602, 19603, 19604
PROXY_CORE, LOAD_CORE = "0", "1"
BUSY, TRIES = 0.97, 3
"""Only windows count whose proxy used so much of its core; so many are tried for one that does."""
EDGE = 0.15
"""The share of a window at either end in which it is not looked how busy a core is."""
TICKS = os.sysconf("SC_CLK_TCK")
RESULTS = HERE.parent / "docs/performance.md"

CONFIG = """
rateLimits:
  tiers: [{name: bench, requestsPerMinute: 1000000, requestsPerDay: 1000000000}]
  tools: [{name: scarce, requestsPerMinute: 30}]
clients:
  trustedProxies: [127.0.0.0/8]
  trustedHeaders: {client: X-Consumer-Username}
cache:
  maxBytes: 16Mi
  tools:
    - {name: cached, ttl: 1h, scope: shared}
    - {name: mine, ttl: 30s, scope: client}
"""

A_MINUTE = 1_000_000
"""Calls of one client that the tier admits, and no tier admits more."""
QUICKEST = 100_000
"""Calls a second that no build comes to."""


@dataclass
class Contender:
    """Who is measured: its ports, its process, and how long it took to listen."""

    port: int
    pid: int
    admin: int = 0
    ready: float = 0.0
    beside: tuple[int, ...] = ()
    """Processes that share its work, and its core."""
    spent: float = 0.0
    """Calls that its bucket had not been given back when they were last counted."""
    counted: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds of all of them."""
        return sum(map(cpu, (self.pid, *self.beside)))

    def spend(self, calls: int) -> None:
        """Count calls that a sidecar has answered."""
        now = time.monotonic()
        self.spent = max(0.0, self.spent - (now - self.counted) * A_MINUTE / 60) + calls
        self.counted = now

    def rest(self, seconds: float) -> None:
        """Wait until a sidecar would refuse none of one client's calls for so long."""
        self.spend(0)
        time.sleep(max(0.0, self.spent + QUICKEST * seconds - A_MINUTE) * 60 / A_MINUTE)


@dataclass(frozen=True)
class Window:
    """What one window has shown: calls a second, CPU µs of a call, the share of the core it used."""

    rate: float
    cost: float
    busy: float


def ratio(ours: list[Window], theirs: list[Window]) -> str:
    """How many calls we answer in the time that they answer one: the median of pairs of windows.

    Where a core was not busy, calls a second say how busy the load or a neighbour was: then it is the
    CPU time of a call that is compared, and a mark says so.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if all(min(our.busy, their.busy) >= BUSY for our, their in pairs):
        return f"{statistics.median(our.rate / their.rate for our, their in pairs):.2f}"
    return f"~{statistics.median(their.cost / our.cost for our, their in pairs):.2f}"


def median(windows: list[Window]) -> tuple[str, str]:
    """Calls a second and CPU µs of a call, as tables say them."""
    rate, cost = (statistics.median(getattr(w, what) for w in windows) for what in ("rate", "cost"))
    return f"{rate:,.0f}", f"{cost:.1f}"


class Rig:
    """Everything that runs during a benchmark; it ends with the `with` statement."""

    def __init__(self, compiled: Path | None) -> None:
        """`compiled`: a Python whose mcpace was built with MCPACE_COMPILE=1."""
        self.builds = {"python": Path(sys.executable)}
        if compiled:
            self.builds["compiled"] = compiled
        self._stack = ExitStack()
        self._port = 19610
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.files = 65_536 if most == resource.RLIM_INFINITY else min(most, 65_536)
        """How many files, and so connections, each process may open."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, most))

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("upstream", "pace"):
            source = HERE / f"{name}.c"
            subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", self.folder / name, source], check=True)
        self.start(LOAD_CORE, [self.folder / "upstream", UPSTREAM])
        wait_for(f"http://127.0.0.1:{UPSTREAM}/")
        asked = b'{"jsonrpc":"2.0","id":"asked","method":"tools/call","params":{"name":"plain"}}'
        with urllib.request.urlopen(f"http://127.0.0.1:{UPSTREAM}/mcp", asked, 10) as answer:
            if b'"id":"asked"' not in answer.read():
                raise SystemExit("the upstream answers under another id than it was asked with")
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def start(
        self, core: str, command: list[object], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program pinned to a core."""
        return self._stack.enter_context(started(core, command, environment))

    def redis(self) -> str:
        """Start Redis; return its URL."""
        command = [
            "redis-server",
            "--port",
            REDIS,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            self.folder,
        ]
        self.start(LOAD_CORE, command)
        return f"redis://127.0.0.1:{REDIS}"

    def nginx(self) -> Contender:
        """Start nginx."""
        conf = self.folder / "nginx.conf"
        conf.write_text(NGINX_CONF % {"dir": self.folder, "upstream": UPSTREAM, "port": NGINX})
        nginx = self.start(PROXY_CORE, ["nginx", "-p", self.folder, "-c", conf])
        wait_for(f"http://127.0.0.1:{NGINX}/")
        worker = subprocess.run(["pgrep", "-P", str(nginx.pid)], check=True, capture_output=True, text=True)
        return Contender(NGINX, int(worker.stdout.split()[0]))

    def envoy(self) -> Contender | None:
        """Start Envoy, where its wheel is installed."""
        program = Path(sys.executable).parent / "envoy"
        if not program.exists():
            return None
        conf = self.folder / "envoy.yaml"
        conf.write_text(ENVOY_CONF % {"upstream": UPSTREAM, "port": ENVOY, "hcm": HCM})
        command = [program, "-c", conf, "--concurrency", 1, "--log-level", "off"]
        process = self.start(PROXY_CORE, command)
        wait_for(f"http://127.0.0.1:{ENVOY}/")
        return Contender(ENVOY, process.pid)

    def sidecar(
        self,
        build: str,
        config: str = CONFIG,
        redis: str | None = None,
        *,
        exact: bool = False,
        within: tuple[object, ...] = (),
        environment: dict[str, str] | None = None,
        upstream: int = UPSTREAM,
        more: tuple[object, ...] = (),
    ) -> Contender:
        """Start a sidecar of one build; `exact`: every counted call asks Redis; `within`: what execs it;
        `more`: options of the command line.
        """  # noqa: D205 - because it reads on
        data, admin = self._port, self._port + 1
        self._port += 2
        path = self.folder / f"config-{data}.yaml"
        path.write_text(config)
        python = self.builds[build]
        command: list[object] = [
            python.parent / "mcpace", "sidecar", "--config", path, "--listen", f"127.0.0.1:{data}",
            "--admin-listen", f"127.0.0.1:{admin}", "--upstream", f"http://127.0.0.1:{upstream}", *more,
        ]  # fmt: skip
        if exact:
            command = [python, HERE / "exact.py", path, data, admin, UPSTREAM]
        began = time.perf_counter()
        given = (environment or {}) | ({"MCPACE_LIMITS_URL": redis} if redis else {})
        process = self.start(PROXY_CORE, [*within, *command], given)
        wait_for(f"http://127.0.0.1:{admin}/healthz")
        ready = time.perf_counter() - began
        wait_for(f"http://127.0.0.1:{data}/")  # it listens there once it has looked for Redis
        return Contender(data, process.pid, admin, ready)

    def load(self, who: Contender, call: str = "", connections: int = 32, seconds: float = 1) -> Window:
        """Run one window of load. Ends the run if any call failed.

        `call` is what `call.lua` takes.
        """
        limited = who.admin and "clients=" not in call  # many clients have as many buckets
        if limited:
            who.rest(seconds)
        command = ["taskset", "-c", LOAD_CORE, *load_command(who.port, call, connections, seconds)]
        before = who.cpu
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
            time.sleep(seconds * EDGE)  # while it starts, and connects, nobody is busy
            used, began = who.cpu, time.perf_counter()
            time.sleep(seconds * (1 - 2 * EDGE))
            busy = (who.cpu - used) / (time.perf_counter() - began)
            output, _ = wrk.communicate()
        calls = calls_of(output)
        if limited:
            who.spend(calls.number)
        window = Window(calls.rate, (who.cpu - before) / calls.number * 1e6, busy)
        words = f"{window.rate:.0f}/s, {window.cost:.1f} µs a call, core {busy:.0%}"
        print(f"  port {who.port} {call[:40]}: {words}", file=sys.stderr, flush=True)
        return window

    def window(self, who: Contender, call: str = "", connections: int = 32, seconds: float = 1) -> Window:
        """One window in which the core of who is measured was busy; after a few in vain, the busiest."""
        best = self.load(who, call, connections, seconds)
        for _ in range(TRIES - 1):
            if best.busy >= BUSY:
                break
            best = max(best, self.load(who, call, connections, seconds), key=lambda window: window.busy)
        return best

    def check(self, sidecar: Contender) -> None:
        """End the run if a sidecar has refused or lost any call: it would have been quick to."""
        for status, count in re.findall(r'mcp_tool_calls_total{status="(\w+)".*} (\S+)', metrics(sidecar)):
            if status not in ("success", "cancelled"):
                raise SystemExit(f"{count} calls ended as {status}")

    def pace(self, port: int, rate: int, seconds: float) -> tuple[int, int, int]:
        """Call at a steady rate; return p50, p99 and the longest, in microseconds."""
        command = ["taskset", "-c", LOAD_CORE, self.folder / "pace", port, rate, seconds]
        output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
        p50, p99, longest = map(int, output.split())
        return p50, p99, longest


def arguments(words: str | None, rounds: int = 5, seconds: int = 3) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=words)
    parser.add_argument("--rounds", type=int, default=rounds, help="windows of each measurement")
    parser.add_argument("--seconds", type=int, default=seconds, help="length of a window")
    words = "a Python whose mcpace was built with MCPACE_COMPILE=1"
    parser.add_argument("--compiled", type=Path, help=words)
    parser.add_argument("--write", action="store_true", help=f"write the results into docs/{RESULTS.name}")
    return parser


def publish(name: str, table: str, *, write: bool) -> None:
    """Print a table, and write it into the documentation where that is asked for."""
    print(table, flush=True)
    if write:
        page = RESULTS.read_text()
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        written, count = pattern.subn(lambda _: f"{begin}{table}\n{end}", page)
        if count != 1:
            raise SystemExit(f"docs/{RESULTS.name} has no place for {name!r}")
        RESULTS.write_text(written)


def table(*rows: tuple[object, ...]) -> str:
    """A table as Markdown has it, the first row its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def machine() -> str:
    """What it was measured with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"CPython {platform.python_version()} ({sys.base_prefix}), {os.cpu_count()} cores of {model}"


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


def cpu(pid: int) -> float:
    """CPU seconds of a process, to the nanosecond: of all threads it has."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def times(pid: int) -> tuple[float, float]:
    """CPU seconds of a process: its own, and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def metrics(sidecar: Contender) -> str:
    """What a sidecar's metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sidecar.admin}/metrics", timeout=10) as answer:
        return answer.read().decode()


def rss(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

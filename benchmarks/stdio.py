"""A stdio server over HTTP: this sidecar beside others that do the same, and beside the bare pipe.

All serve one process of a server that nobody here wrote to one session; they are measured in turns, at one
call in flight and at eight. The sidecar has limits, identity, metrics and admission on. What the pipe
itself carries, with sixteen calls in flight, is the most that anybody could.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from load import ARGUMENTS, INITIALIZE, Calls, Client, calls_of, load_command
from rig import arguments, machine, publish, table, wait_for
from tools.packages.install import mcp_proxy, modules, node, supergateway
from tools.ports import free_port

SERVER = [str(node()), str(modules() / "@modelcontextprotocol/server-everything/dist/index.js"), "stdio"]
CALL = {"method": "tools/call", "params": {"name": "echo", "arguments": ARGUMENTS}}
MANIFEST = """
apiVersion: mcpace.dev/v1alpha1
kind: McpServer
metadata: {name: benchmark}
spec:
  image: benchmark
  transport: stdio
  command: %(command)s
  rateLimits:
    tiers: [{name: bench, requestsPerMinute: 1000000, requestsPerDay: 1000000000}]
  clients:
    trustedProxies: [127.0.0.0/8]
    trustedHeaders: {client: X-Consumer-Username}
"""
OURS = "mcpace"
THEIRS = {"supergateway": (4, 5), "mcp-proxy": (4, 7)}
"""Who else does it: how many times its calls ours is to answer, at one in flight and at eight."""
OF_PIPE = 0.7
IN_FLIGHT = (1, 8, 16)


def commands(python: Path, folder: Path) -> dict[str, tuple[list[object], int]]:
    """How each is started, and where it listens."""
    manifest = folder / "manifest.yaml"
    manifest.write_text(MANIFEST % {"command": json.dumps(SERVER)})
    ours, other, third = free_port(), free_port(), free_port()
    gateway = [node(), supergateway(), "--stdio", " ".join(SERVER)]
    streamable = ["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none"]
    return {
        OURS: (
            [
                python.parent / "mcpace", "run", manifest, "--listen", f"127.0.0.1:{ours}",
                "--admin-listen", f"127.0.0.1:{free_port()}",
            ],
            ours,
        ),
        "supergateway": ([*gateway, *streamable, "--port", other], other),
        "mcp-proxy": (
            [mcp_proxy(), "--port", third, "--log-level", "ERROR", "--", *SERVER],
            third,
        ),
    }  # fmt: skip


@contextmanager
def running(command: list[object]) -> Iterator[None]:
    """A program, until the block ends; its children end with it."""
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def load(port: int, session: str, connections: int, seconds: float) -> Calls:
    """One window of calls in one session, over so many connections."""
    command = load_command(port, f"tool=echo session={session}", connections, seconds)
    return calls_of(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


class Pipe:
    """The server's own pipe, and nothing between."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._write, self._read = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._send({"id": 0, "method": "initialize", "params": INITIALIZE})
        self._rest = b""
        while not self._answers():
            pass
        self._send({"method": "notifications/initialized"})
        self._ids = itertools.count(1)

    def _send(self, message: dict[str, object]) -> None:
        os.write(self._write, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _calls(self, number: int) -> bytes:
        calls = ({"jsonrpc": "2.0", "id": next(self._ids), **CALL} for _ in range(number))
        return b"".join(json.dumps(call).encode() + b"\n" for call in calls)

    def _answers(self) -> int:
        *lines, self._rest = (self._rest + os.read(self._read, 1 << 20)).split(b"\n")
        return sum(line.startswith(b'{"result"') for line in lines)  # it notifies, too

    def load(self, in_flight: int, seconds: float) -> float:
        """Calls a second with so many in flight."""
        os.write(self._write, self._calls(in_flight))
        answered, owed, began = 0, in_flight, time.perf_counter()
        while owed:
            answers = self._answers()
            answered += answers
            owed -= answers
            if time.perf_counter() - began < seconds:
                os.write(self._write, self._calls(answers))
                owed += answers
        return answered / (time.perf_counter() - began)

    def end(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Measure, and say what was seen."""
    parser = arguments(__doc__, rounds=5, seconds=2)
    asked = parser.parse_args()
    rates: dict[tuple[str, int], list[Calls]] = {}
    piped: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        all_of_them = commands(asked.compiled or Path(sys.executable), Path(folder))
        names: dict[str, str] = {}
        for who, (command, port) in all_of_them.items():
            stack.enter_context(running(command))
            wait_for(f"http://127.0.0.1:{port}/")
            client = Client(port)
            names[who] = client.begin()
            if b"Echo: mm" not in client.call("echo"):
                raise SystemExit(f"{who} answers a call with {client.said!r}")
        pipe = Pipe()
        stack.callback(pipe.end)
        for in_flight in IN_FLIGHT:
            for _ in range(asked.rounds):
                for who, (_, port) in all_of_them.items():
                    seen = load(port, names[who], in_flight, asked.seconds)
                    rates.setdefault((who, in_flight), []).append(seen)
                    print(f"  {who}, {in_flight} in flight: {seen.rate:.0f}/s", file=sys.stderr, flush=True)
                piped.setdefault(in_flight, []).append(pipe.load(in_flight, asked.seconds))
    publish("stdio", report(rates, piped), write=asked.write)


def report(rates: dict[tuple[str, int], list[Calls]], piped: dict[int, list[float]]) -> str:
    """The tables."""

    def times(in_flight: int, who: str) -> str:
        pairs = zip(rates[OURS, in_flight], rates[who, in_flight], strict=True)
        return f"{statistics.median(ours.rate / theirs.rate for ours, theirs in pairs):.1f}"

    def row(who: str) -> tuple[str, ...]:
        cells = [who]
        for in_flight in IN_FLIGHT:
            seen = rates[who, in_flight]
            rate, median = (
                statistics.median(getattr(each, of) for each in seen) for of in ("rate", "median")
            )
            cells += [f"{rate:,.0f}", f"{median:.2f}", "" if who == OURS else times(in_flight, who)]
        return tuple(cells)

    head: list[str] = ["calls a second, p50 in ms, and how many times theirs ours is"]
    for in_flight in IN_FLIGHT:
        head += [f"{in_flight} in flight", "p50", "times"]
    last = IN_FLIGHT[-1]
    of_pipe = statistics.median(
        ours.rate / raw for ours, raw in zip(rates[OURS, last], piped[last], strict=True)
    )
    rows = table(tuple(head), *map(row, (OURS, *THEIRS)))
    pipe = ", ".join(f"{statistics.median(piped[each]):,.0f} ({each} in flight)" for each in IN_FLIGHT)
    return (
        f"{rows}\n\nThe bare pipe carries {pipe} calls a second; at {last} in flight the sidecar carries"
        f" {of_pipe:.2f} of that.\n\n{machine()}"
    )


if __name__ == "__main__":
    main()

"""Load: windows of calls by wrk, and a client of the handshake era that sends one at a time."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}
ARGUMENTS = {"message": "m" * 64}
"""What `call.lua` calls with in a session."""


@dataclass(frozen=True)
class Calls:
    """What a load generator has seen in one window."""

    number: int
    rate: float
    """Calls a second."""
    median: float
    """Milliseconds."""


def load_command(port: int, call: str, connections: int, seconds: float) -> list[str]:
    """The command of one window of load; `call` is what `call.lua` takes."""
    script = Path(__file__).with_name("call.lua")
    return [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s",
        "-s", str(script), f"http://127.0.0.1:{port}/mcp", "--", *call.split(),
    ]  # fmt: skip


def calls_of(output: str) -> Calls:
    """What it has printed. Ends the run if any call failed."""
    result = next((line for line in output.splitlines() if line.startswith("RESULT")), "")
    number, microseconds, errors, median = map(int, result.split()[1:] or (0, 0, 0, 0))
    if errors or not number:
        raise SystemExit(f"{errors} of {number} calls failed:\n{output}")
    return Calls(number, number / microseconds * 1e6, median / 1e3)


class Client:
    """A client of the handshake era, over one kept connection."""

    def __init__(self, port: int) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._port = port
        self.session = ""

    def moved(self, port: int) -> Client:
        """The same session, at another port; its connection is there."""
        client = Client(port)
        client._line.connect()
        client.session = self.session
        return client

    def begin(self) -> str:
        """Begin a session; return its id."""
        self.initialize()
        self.post({"method": "notifications/initialized"})
        return self.session

    def initialize(self) -> None:
        """The request that begins it, alone."""
        self.session = ""
        answer = self.post({"id": 0, "method": "initialize", "params": INITIALIZE})
        self.session = answer.headers.get("Mcp-Session-Id", "")
        if answer.status != 200 or not self.session:
            raise SystemExit(f"port {self._port} begins no session: HTTP {answer.status}")

    def call(self, tool: str) -> bytes:
        """Call a tool in it, with the argument that `echo` has; return what is answered."""
        message = {"id": 1, "method": "tools/call", "params": {"name": tool, "arguments": ARGUMENTS}}
        self.post(message)
        if b'"result"' not in self.said:
            raise SystemExit(f"port {self._port} answers a call with {self.said!r}")
        return self.said

    def post(self, message: dict[str, object]) -> http.client.HTTPResponse:
        """Send a message in it; what is answered is in `said`."""
        head = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self.session:
            head |= {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": "2025-11-25"}
        self._line.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", **message}), head)
        answer = self._line.getresponse()
        self.said = answer.read()
        return answer

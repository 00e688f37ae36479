"""Single requests to an MCP endpoint, as a client of 2026-07-28 that knows no session sends them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final

VERSION: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "asking", "version": "1"},
}


@dataclass(frozen=True)
class Answered:
    """One answer."""

    status: int
    headers: Any
    body: bytes = field(repr=False)

    @property
    def message(self) -> dict[str, Any]:
        """The JSON-RPC message, whole or as one event."""
        text = self.body.decode()
        if self.headers.get_content_type() == "text/event-stream":
            text = "".join(line[6:] for line in text.splitlines() if line.startswith("data: "))
        return dict(json.loads(text))

    @property
    def result(self) -> dict[str, Any]:
        assert "result" in self.message, f"{self.status}: {self.body.decode()}"
        return dict(self.message["result"])

    @property
    def text(self) -> str:
        """What a model reads of a tool's result."""
        return "".join(part.get("text", "") for part in self.result["content"])


def ask(url: str, method: str, /, headers: dict[str, str] | None = None, **params: Any) -> Answered:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": _META}}
    name = {"Mcp-Name": str(params["name"])} if "name" in params else {}
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": method,
    }
    return send(urllib.request.Request(url, json.dumps(body).encode(), sent | name | (headers or {})))


def call(url: str, tool: str, /, headers: dict[str, str] | None = None, **arguments: Any) -> Answered:
    return ask(url, "tools/call", headers, name=tool, arguments=arguments)


def send(request: urllib.request.Request | str) -> Answered:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answered(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answered(error.code, error.headers, error.read())

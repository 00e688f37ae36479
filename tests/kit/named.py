"""A server that names itself and its tools as it likes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from tests.kit.upstream import Answer, Heard, json_answer


def named(server: str, tools: Sequence[str], error: str = "no") -> Answer:
    """Answers of a server of this name with these tools; a call with `fail` is answered with this error."""

    def answer(heard: Heard) -> bytes:
        message: dict[str, Any] = heard.message
        method, params = message.get("method"), message.get("params") or {}
        result: dict[str, Any] = {"content": [{"type": "text", "text": "n" * 400}], "isError": False}
        if method == "server/discover":
            info = {"name": server, "version": "1</title>"}
            result = {
                "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}},
                "_meta": {"io.modelcontextprotocol/serverInfo": info},
            }
        elif method == "tools/list":
            result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]}
        elif "fail" in (params.get("arguments") or {}):
            result = {"content": [{"type": "text", "text": error}], "isError": True}
        told = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
        return json_answer(msgspec.json.encode(told))

    return answer

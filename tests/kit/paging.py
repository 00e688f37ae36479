"""Long results, and how a client reads them page by page."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.kit.sidecars import Running
from tests.kit.upstream import Heard, json_answer

ITEMS = [{"id": n, "name": f"station {n}", "at": 1.10} for n in range(250)]
PAGED = {"responses": {"page": {"tools": [{"name": "list", "items": 100, "bytes": "64Ki"}]}}}


def answer_with(result: dict[str, Any]) -> Any:
    def answer(heard: Heard) -> bytes:
        message = heard.message
        if message.get("method") == "tools/list":
            schema = {"type": "object"}
            tools = [{"name": n, "inputSchema": schema, "outputSchema": schema} for n in ("list", "other")]
            given = {"tools": tools}
        else:
            given = result
        return json_answer(
            msgspec.json.encode({"jsonrpc": "2.0", "id": message.get("id"), "result": given})
        )

    return answer


async def next_page(sidecar: Running, handle: str, page: Any, **more: Any) -> Any:
    headers = more.pop("headers", {})
    _, _, body = await sidecar.call("next_page", {"handle": handle, "page": page, **more}, **headers)
    return body["result"]

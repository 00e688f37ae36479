"""A server that counts how often it is asked, and calls that may share its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from tests.kit.sidecars import Running
from tests.kit.upstream import Heard, Scripted, json_answer

SHARED = {"cache": {"tools": [{"name": "t", "ttl": "1m", "scope": "shared"}]}}


def result_of(**fields: Any) -> bytes:
    return json_answer(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": fields}))


class Counting:
    """Answers each call with its number; waits where it is told to."""

    def __init__(self, scripted: Scripted) -> None:
        self.calls = 0
        self.failing = False
        self.go = asyncio.Event()
        self.go.set()
        scripted.answer = self.answer

    async def answer(self, heard: Heard) -> Any:
        if b"tools/call" not in heard.body:
            yield json_answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}')
            return
        self.calls += 1
        number = self.calls
        await self.go.wait()
        yield result_of(n=number, isError=True) if self.failing else result_of(n=number)


async def number(sidecar: Running, tool: str = "t", **headers: str) -> int:
    _, _, body = await sidecar.call(tool, **headers)
    return int(body["result"]["n"])

"""One scenario with the official Python SDK, version 1: URL, mode and calls in, one line of JSON out."""

import asyncio
import json
import sys

from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client


async def main(url: str, calls: list[dict]) -> dict:
    results = []
    async with (
        streamable_http_client(url) as (reading, writing, _),
        ClientSession(reading, writing) as client,
    ):
        await client.initialize()
        tools = [tool.name for tool in (await client.list_tools()).tools]
        for call in calls:
            try:
                result = await client.call_tool(call["tool"], call["arguments"])
            except McpError as error:
                results.append({"code": error.error.code, "data": error.error.data})
            else:
                text = "".join(getattr(block, "text", "") for block in result.content)
                results.append({"text": text, "isError": bool(result.isError)})
    return {"tools": tools, "results": results}


print(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[3])))))

"""One scenario with the official Python SDK, version 2: URL, mode and calls in, one line of JSON out."""

import asyncio
import json
import sys

from mcp import Client, MCPError


async def main(url: str, mode: str, calls: list[dict]) -> dict:
    results = []
    async with Client(url, mode=mode) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        for call in calls:
            try:
                result = await client.call_tool(call["tool"], call["arguments"])
            except MCPError as error:
                results.append({"code": error.error.code, "data": error.error.data})
            else:
                text = "".join(getattr(block, "text", "") for block in result.content)
                results.append({"text": text, "isError": bool(result.is_error)})
    return {"tools": tools, "results": results}


print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))

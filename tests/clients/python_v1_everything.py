"""What a session can do with server-everything, by the official Python SDK, version 1: URL in, JSON out."""

import asyncio
import json
import sys

from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client


async def sample(_context, params):
    text = types.TextContent(type="text", text=f"sampled {params.messages[0].content.text}")
    return types.CreateMessageResult(role="assistant", content=text, model="none")


async def elicit(_context, _params):
    return types.ElicitResult(action="accept", content={"name": "Ada", "check": True})


async def roots(_context):
    return types.ListRootsResult(roots=[types.Root(uri="file:///work/here", name="here")])


async def main(url: str) -> dict:
    steps, logged, seen = [], [], {}

    async def progress(done, total, _message):
        steps.append([done, total])

    async def log(params):
        logged.append(params.level)

    async with (
        streamable_http_client(url) as (reading, writing, _),
        ClientSession(
            reading, writing, sampling_callback=sample, elicitation_callback=elicit,
            list_roots_callback=roots, logging_callback=log,
        ) as client,
    ):  # fmt: skip
        await client.initialize()
        seen["tools"] = [tool.name for tool in (await client.list_tools()).tools]

        async def call(name, **arguments):
            result = await client.call_tool(name, arguments, progress_callback=progress)
            return "".join(getattr(block, "text", "") for block in result.content)

        seen["long"] = await call("trigger-long-running-operation", duration=0.5, steps=5)
        seen["steps"] = list(steps)
        seen["sampling"] = await call("trigger-sampling-request", prompt="me", maxTokens=10)
        seen["elicitation"] = await call("trigger-elicitation-request")
        seen["roots"] = await call("get-roots-list")
        await client.set_logging_level("debug")
        both = [call("trigger-long-running-operation", duration=0.5, steps=2) for _ in range(3)]
        seen["together"] = await asyncio.gather(*both)
        await call("toggle-simulated-logging")
        async with asyncio.timeout(20):
            while not logged:
                await asyncio.sleep(0.05)
        seen["logged"] = bool(logged)
    return seen


print(json.dumps(asyncio.run(main(sys.argv[1]))))

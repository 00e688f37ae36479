"""A session with the official Python SDK of either version, led by its caller.

Arguments: the URL, and how the session begins (`legacy`, or `sse`: the pair of 2024-11-05). Each line of standard input is a request in
JSON, `{"id", "do", …}`; each line of standard output what became of one, `{"id", "result" | "error"}`, or
what the server said by itself, `{"heard": METHOD, …}`. Requests run side by side.
"""

import asyncio
import json
import sys
from typing import Any

from mcp import types
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

PAUSE = "seconds="
"""What a message to sample begins with that is answered only after so many seconds."""
WHEN_TOLD = "when told"
"""A message to sample that is answered only when the caller says so."""
told = asyncio.Event()


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


async def sampled(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
    content = params.messages[0].content
    text = (content[0] if isinstance(content, list) else content).text
    say(heard="sampling/createMessage", text=text)
    if text.startswith(PAUSE):
        await asyncio.sleep(float(text.removeprefix(PAUSE)))
    elif text == WHEN_TOLD:
        await told.wait()
    return types.CreateMessageResult(
        role="assistant", model="none", content=types.TextContent(type="text", text=f"sampled {text}")
    )


async def elicited(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    say(heard="elicitation/create", text=params.message)
    return types.ElicitResult(action="accept", content={"name": "Ada"})


async def rooted(_context: Any) -> types.ListRootsResult:
    say(heard="roots/list")
    return types.ListRootsResult(roots=[types.Root(uri="file:///tmp")])


async def logged(params: types.LoggingMessageNotificationParams) -> None:
    say(heard="notifications/message", level=params.level, logger=params.logger, data=params.data)


async def heard(message: Any) -> None:
    notice = getattr(message, "root", message)
    method = getattr(notice, "method", "")
    if method.startswith("notifications/") and method != "notifications/message":
        say(heard=method, **({"params": plain(notice.params)} if notice.params else {}))


async def do(client: ClientSession, request: dict[str, Any]) -> Any:
    match request["do"]:
        case "call":

            async def progressed(progress: float, total: float | None, message: str | None) -> None:
                say(heard="progress", of=request["id"], progress=progress)

            listener = progressed if request.get("progress") else None
            result = await client.call_tool(
                request["tool"], request.get("arguments") or {}, progress_callback=listener
            )
            return plain(result)
        case "list":
            return [tool.name for tool in (await client.list_tools()).tools]
        case "level":
            return plain(await client.set_logging_level(request["level"]))
        case "subscribe":
            return plain(await client.subscribe_resource(request["uri"]))
        case "tell":
            told.set()
            return None
        case "ping":
            return plain(await client.send_ping())
    raise ValueError(request["do"])


async def answer(client: ClientSession, request: dict[str, Any]) -> None:
    try:
        say(id=request["id"], result=await do(client, request))
    except Exception as error:
        said = getattr(error, "error", None)
        say(id=request["id"], error={"code": getattr(said, "code", None), "message": str(error)})


async def main(url: str, begins: str) -> None:
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with (
        (sse_client if begins == "sse" else streamable_http_client)(url) as streams,
        ClientSession(
            streams[0], streams[1], sampling_callback=sampled, elicitation_callback=elicited,
            list_roots_callback=rooted, logging_callback=logged, message_handler=heard,
        ) as client,
    ):  # fmt: skip
        say(id=0, result=plain(await client.initialize()))
        running = set()
        while line := await reader.readline():
            task = asyncio.create_task(answer(client, json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)


asyncio.run(main(*sys.argv[1:]))

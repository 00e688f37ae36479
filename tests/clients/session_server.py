"""A server of the official Python SDK, version 1, whose sessions hold state; its port is in PORT.

With TRANSPORT=sse it speaks the pair of 2024-11-05.

It appends what was done, one line of JSON each, to the file that DONE names: `{"did": WHAT, …}`.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from mcp.server.fastmcp import Context, FastMCP
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel

server = FastMCP(
    "session", host=os.environ.get("HOST", "127.0.0.1"), port=int(os.environ["PORT"]), log_level="ERROR"
)
counts: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""Of each session: how often it counted."""


def done(what: str, **more: Any) -> None:
    with Path(os.environ.get("DONE", os.devnull)).open("a") as file:
        file.write(json.dumps({"did": what, "process": os.getpid(), **more}) + "\n")


class Name(BaseModel):
    name: str


@server.tool()
async def count(ctx: Context) -> str:
    """Counts, in this session's memory."""
    counts[ctx.session] = counts.get(ctx.session, 0) + 1
    return str(counts[ctx.session])


@server.tool()
async def process() -> str:
    """Which process answers."""
    return str(os.getpid())


@server.tool()
async def write(word: str, seconds: float = 0) -> str:
    """Does something that must not be done twice, and takes its time to say so."""
    done("write", word=word)
    await asyncio.sleep(seconds)
    done("wrote", word=word)
    return f"wrote {word}"


@server.tool()
async def slow(ctx: Context, steps: int = 4, seconds: float = 0.25) -> str:
    """Tells how far it is, a step at a time."""
    for step in range(steps):
        await asyncio.sleep(seconds)
        await ctx.report_progress(step + 1, steps)
    return f"{steps} steps"


@server.tool()
async def sample(ctx: Context, text: str) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    answer = await ctx.session.create_message([message], max_tokens=10, related_request_id=ctx.request_id)
    return answer.content.text  # type: ignore[union-attr]


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks the user."""
    answer = await ctx.elicit("Who are you?", Name)
    return f"{answer.action} {answer.data.name if answer.data else ''}"  # type: ignore[union-attr]


@server.tool()
async def say(ctx: Context, text: str) -> str:
    """Says something on the session's own stream: a log line, a changed list, a changed resource."""
    await ctx.session.send_log_message("info", text, logger="session")
    await ctx.session.send_tool_list_changed()
    await ctx.session.send_resource_updated("memo://one")  # type: ignore[arg-type]
    return "said"


@server._mcp_server.set_logging_level()
async def level(level: str) -> None:
    done("level", level=level)


@server._mcp_server.subscribe_resource()
async def subscribe(uri: Any) -> None:
    done("subscribe", uri=str(uri))


done("start")
server.run("sse" if os.environ.get("TRANSPORT") == "sse" else "streamable-http")

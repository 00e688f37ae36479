"""A server of the official Python SDK, version 1, with one resource; its port is in PORT."""

import os

from mcp.server.fastmcp import FastMCP

server = FastMCP(
    "files", host="127.0.0.1", port=int(os.environ["PORT"]),
    stateless_http=True, json_response=True, log_level="ERROR",
)  # fmt: skip


@server.resource("file:///a/b")
def b() -> str:
    """A file."""
    return "what it holds"


server.run("streamable-http")

"""Where else the server might be, when it is not where the manifest says: another path, transport, port.

Asked only while the handshake fails, and only of the server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

from mcpace_sidecar.contract.config import SidecarConfig
from mcpace_sidecar.errors import McpaceError, UpstreamError
from mcpace_sidecar.http.backend import Backend
from mcpace_sidecar.server.session import Session, conversation

PATHS: Final = ("/mcp", "/mcp/", "/", "/sse", "/api/mcp", "/v1/mcp")
"""Paths that servers are usually at."""
TIMEOUT: Final = 5.0
"""Seconds that asking elsewhere may take."""
_LISTENING: Final = "0A"


async def advice(
    pool: Backend, config: SidecarConfig, error: McpaceError, own_ports: Collection[int] | None
) -> str:
    """What to write in the manifest instead; empty where nothing better is known.

    `own_ports` are the sidecar's, or None where others share the loopback.
    """
    if config.transport == "stdio":
        return ""  # a process is nowhere else, and says itself what it got wrong
    if isinstance(error, UpstreamError) and error.reason == "connect":
        return _other_ports(pool.address.port, own_ports) if own_ports is not None else ""
    if isinstance(error, UpstreamError):
        return "Does it speak HTTP without TLS on this port? If not, write another `port`."
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT):
            return await _other_paths(pool, config)
    return ""


def _other_ports(port: int, own: Collection[int]) -> str:
    found = sorted(listening() - {port, *own})
    if not found:
        return (
            f"Nothing else listens in the pod: let the server listen on port {port}, or write its `port`."
        )
    listed = ", ".join(map(str, found))
    return f"The pod listens on {listed}: if the server is there, write `port: {found[0]}`."


def listening(root: Path = Path("/proc/net")) -> set[int]:
    """The TCP ports that are listened on in this network namespace."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (root / name).read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING:
                    ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


async def _other_paths(pool: Backend, config: SidecarConfig) -> str:
    for path in dict.fromkeys([config.endpoint, *PATHS]):
        for transport in ("streamable-http", "sse"):
            if (path, transport) == (config.endpoint, config.transport):
                continue
            if await _answers(pool, path, transport):
                there = [] if path == config.endpoint else [f"`path: {path}`"]
                spoken = [] if transport == config.transport else [f"`transport: {transport}`"]
                return f"It answers MCP otherwise: write {' and '.join([*spoken, *there])}."
    return "No usual path of its answers MCP either: write its `path` and `transport`."


async def _answers(pool: Backend, path: str, transport: str) -> bool:
    session = Session(pool, path)
    try:
        with conversation():
            try:
                if transport == "sse":
                    await session.connect_pair()
                else:
                    await session.initialize()
            finally:
                with contextlib.suppress(McpaceError):
                    await session.end()
    except McpaceError:
        return False
    return True

"""Servers of others, as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tests.kit.waiting import STARTING, until
from tools.ports import free_port

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def serving(
    port: int, *command: object, cwd: Path | None = None, **environment: str
) -> AsyncIterator[None]:
    """A server of somebody's, from when it listens until it is killed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, env=os.environ | {"PORT": str(port)} | environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def listening() -> bool:
        assert process.returncode is None, f"{command[0]} has ended"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listening, f"{command[0]} to listen", STARTING)
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.contextmanager
def weather_server() -> Iterator[int]:
    """The weather example, a real MCP server, on the port that is given."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, ROOT / "examples/weather/server.py"], env=os.environ | {"PORT": str(port)}
    ) as process:
        deadline = time.monotonic() + STARTING
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the weather server does not listen"
                assert process.poll() is None, "the weather server ended"
        yield port
        process.terminate()

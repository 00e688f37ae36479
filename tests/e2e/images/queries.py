"""Opens a database connection for every call, as many servers do; also burns CPU, or waits, on request."""

import asyncio
import os
import time

import psycopg
from mcp.server.mcpserver import MCPServer

server = MCPServer("queries", log_level="WARNING")


def connection():
    """A new connection, to wherever DATABASE_URL points."""
    return psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"], connect_timeout=20)


@server.tool()
async def query(seconds: float = 0.05) -> dict[str, int]:
    """Keep the database busy for a while; return the process that served."""
    async with await connection() as opened:
        cursor = await opened.execute("select pg_backend_pid(), pg_sleep(%s)", [seconds])
        return {"process": (await cursor.fetchone())[0]}


@server.tool()
async def busiest() -> dict[str, int]:
    """Return how many connections the pool's user has now."""
    async with await connection() as opened:
        mine = "backend_type = 'client backend' and usename = current_user"
        cursor = await opened.execute(f"select count(*) from pg_stat_activity where {mine}")
        return {"connections": (await cursor.fetchone())[0]}


@server.tool()
async def prepared(times: int = 3) -> dict[str, int]:
    """Use one prepared statement several times, each in a transaction of its own."""
    total = 0
    async with await connection() as opened:
        for number in range(times):
            cursor = await opened.execute("select %s::int + 1", [number], prepare=True)
            total += (await cursor.fetchone())[0]
            await opened.commit()
    return {"total": total}


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@server.tool()
async def burn(seconds: float = 0.1) -> dict[str, float]:
    """Use a CPU for a while."""
    await asyncio.to_thread(_burn, seconds)
    return {"seconds": seconds}


@server.tool()
async def wait(seconds: float) -> dict[str, float]:
    """Take a while, and do nothing."""
    await asyncio.sleep(seconds)
    return {"seconds": seconds}


server.run("streamable-http", host="127.0.0.1", port=8000)

"""Sidecars under test, in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from time import monotonic
from typing import Any

import msgspec
from tests.kit.waiting import DEADLINE, until
from tools.ports import free_port

from mcpace_sidecar.call.recording import AWAY
from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.limits.redis import RedisLimits
from mcpace_sidecar.process.options import Options
from mcpace_sidecar.process.sidecar import Sidecar
from mcpace_sidecar.redis.link import Link


class Running:
    """A sidecar under test: raw ways to talk to it, and the parts of it that tests look at.

    How these parts hang together is said here alone.
    """

    def __init__(self, sidecar: Sidecar, config: dict[str, Any], waiting: asyncio.Task[None]) -> None:
        self.sidecar = sidecar
        self.config = config
        self.waiting = waiting
        self.admin, self.data = (address.port for address in sidecar.listening)
        self.url = f"http://127.0.0.1:{self.data}/mcp"
        self.plane = sidecar.plane
        self.handshake = sidecar.handshake
        self.catalog = sidecar.catalog
        self.findings = sidecar.findings
        self.memory = sidecar.memory
        self.connections = sidecar.connections
        self.door_connections = sidecar._door_connections
        self.doors = sidecar._doors
        self.configuration = sidecar.configuration
        self.reload = sidecar.reload
        self.drain = sidecar.drain
        self.drained = sidecar._admin.drained
        self.end = sidecar.end
        self.launch: Any = None
        """How processes of a server of stdio are started, where a test wants to know."""
        self.guests: list[asyncio.StreamWriter] = []
        """Connections to it that end with the test."""

    @property
    def in_flight(self) -> Collection[Any]:
        """The calls in flight."""
        return self.plane.in_flight

    @property
    def links(self) -> list[Link]:
        """To Redis: the limits' first."""
        return self.sidecar.stores.links

    @property
    def shared_limits(self) -> RedisLimits:
        assert self.sidecar.stores.redis_limits is not None, "it was started without limits_url"
        return self.sidecar.stores.redis_limits

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self.sidecar._ending.is_set()

    def kept(self) -> Iterable[Any]:
        """The results in memory."""
        return self.memory._entries.values()

    async def ready(self) -> None:
        """Wait until it has shaken hands with its server."""
        await until(lambda: self.handshake.ready, "the handshake")

    async def idle(self) -> None:
        """Wait until no call is in flight."""
        await until(lambda: not self.in_flight, "every call to end")

    async def forsaken(self) -> None:
        """The same, once clients that have left did not come back for longer than they are waited for."""

        def ended() -> bool:
            self.plane.recordings.sweep(monotonic() + AWAY + 1)
            return not self.in_flight

        await until(ended, "every call to end, those of clients that have left too")

    async def busy(self, calls: int) -> None:
        """Wait until so many calls are in flight."""
        await until(lambda: len(self.in_flight) == calls, f"{calls} calls to be in flight")

    async def raw(self, data: bytes, *, port: int | None = None, end: bool = True) -> bytes:
        """Send bytes and read until the sidecar closes; `end` asks it to after the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.data)
        writer.write(data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) if end else data)
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read(-1)
        writer.close()
        return answer

    async def post(self, message: Any, **headers: str) -> tuple[int, dict[str, str], Any]:
        """POST one message; return status, headers and the decoded body."""
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        lines = {"Host": "localhost", "Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        head = "POST /mcp HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items() if v)
        raw = await self.raw(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        top, _, answer = raw.partition(b"\r\n\r\n")
        status, *fields = top.decode().split("\r\n")
        parsed = {n.lower(): v.strip() for n, _, v in (f.partition(":") for f in fields)}
        is_json = answer and parsed.get("content-type") == "application/json"
        decoded = msgspec.json.decode(answer) if is_json else answer
        return int(status.split()[1]), parsed, decoded

    async def call(
        self, tool: str, arguments: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Call a tool."""
        params = {"name": tool, "arguments": arguments or {}}
        return await self.post(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, **headers
        )

    async def begin(
        self, tool: str, arguments: Any = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Call a tool, and leave it to the test what becomes of the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.data)
        params = {"name": tool, "arguments": arguments or {}}
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        writer.write(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return reader, writer

    async def metrics(self) -> dict[str, float]:
        """What /metrics says: sample -> value."""
        raw = await self.raw(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", port=self.admin)
        lines = raw.partition(b"\r\n\r\n")[2].decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def admin_get(self, path: str, **headers: str) -> tuple[int, Any]:
        lines = "".join(f"{n}: {v}\r\n" for n, v in headers.items())
        raw = await self.raw(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode(), port=self.admin
        )
        head, _, body = raw.partition(b"\r\n\r\n")
        return int(head.split()[1]), msgspec.json.decode(body) if body.startswith(b"{") else body.decode()


Start = Callable[..., Awaitable[Running]]


def relaying() -> dict[str, Any]:
    """Options of a sidecar that others of its server reach."""
    return {"relay_listen": Address("127.0.0.1", free_port()), "session_keys": (b"k" * 32,)}


@contextlib.asynccontextmanager
async def sidecars() -> AsyncIterator[Start]:
    """Starts sidecars, which end with the test: an upstream port, a configuration, options of Options."""
    running: list[Running] = []

    async def begin(upstream: int, config: dict[str, Any] | None = None, **options: Any) -> Running:
        current = config if config is not None else {}
        host = options.pop("host", "127.0.0.1")
        listen = options.pop("listen", "127.0.0.1")
        admin = options.pop("admin", "127.0.0.1")
        sidecar = Sidecar(
            Options(
                load=lambda: parse(SidecarConfig, current),
                watched=options.pop("watched", ()),
                listen=Address(listen, 0),
                admin_listen=Address(admin, 0),
                upstream=Address(host, upstream),
                **options,
            )
        )
        await sidecar.start()
        waiting = asyncio.get_running_loop().create_task(sidecar.wait())
        running.append(Running(sidecar, current, waiting))
        return running[-1]

    try:
        yield begin
    finally:
        for guest in [guest for each in running for guest in each.guests]:
            guest.transport.abort()
            with contextlib.suppress(ConnectionError):
                await guest.wait_closed()
        for each in running:
            each.sidecar.end()
            await each.waiting

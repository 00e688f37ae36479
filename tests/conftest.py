"""Real servers for tests: Redis, the weather example, sidecars, and a server that says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from hypothesis import settings
from tests.ports import free_port

from mcpace_sidecar.contract.config import SidecarConfig, parse
from mcpace_sidecar.http.client import Address
from mcpace_sidecar.sidecar import Options, Sidecar

# In the background, or under nohup, all that tests start would ignore these.
for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    signal.signal(_number, _handler)
settings.register_profile("mcpace", parent=settings(), deadline=None)  # a busy machine fails no test
settings.load_profile("mcpace")

ROOT = Path(__file__).parents[1]
DEADLINE = 30.0
"""Seconds that any one condition of a test may take."""
STARTING = 60.0
"""Seconds that a program may take to start: what it imports takes long on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs an API server tests the operator, of which nothing is compiled."""
    for item in items:
        if isinstance(item, pytest.Function) and "plane" in item.fixturenames:
            item.add_marker("interpreted")


def repetitions(full: int) -> int:
    """How often a `repeated` test repeats: a tenth of what it does with MCPACE_REPEAT=1, as in `make soak`."""
    return max(1, round(full * float(os.environ.get("MCPACE_REPEAT", "0.1"))))


async def until(
    condition: Callable[[], Any], what: str, seconds: float = DEADLINE, pause: float = 0.01
) -> Any:
    """Wait until the condition is true, and return it; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        await asyncio.sleep(pause)


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


class RedisServer:
    """A real Redis that a test may stop and start again, empty."""

    def __init__(
        self, folder: Path, *arguments: str, config: Path | None = None, password: str | None = None
    ) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._config = [config] if config is not None else []
        self._password = password
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: run `make test`, or install Debian's package redis-server"
        self._process = subprocess.Popen(
            [
                program, *self._config, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder,
                *self._arguments,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + STARTING
        with self.client(**({"password": self._password} if self._password else {})) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert self._process.poll() is None, "redis-server has ended"
                    assert time.monotonic() < deadline, "redis-server does not answer"
                else:
                    return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        """Let it end in order, so that it writes what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, **options)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def weather() -> Iterator[int]:
    """The port of the weather example, a real MCP server."""
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


Answer = Callable[["Heard"], bytes | AsyncIterator[bytes]]


class Heard:
    """One request as the scripted server received it."""

    def __init__(self, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        self.line, *lines = head.split(b"\r\n")
        self.headers = {n.lower(): v.strip() for n, _, v in (line.partition(b":") for line in lines)}
        self.reader = reader
        self.writer = writer

    @property
    def message(self) -> Any:
        return msgspec.json.decode(self.body)


class Scripted:
    """An upstream that answers with the bytes a test gives it, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self.answer: Answer = lambda _: json_answer(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        self.server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[Any]] = set()
        self.port = free_port()

    async def start(self, host: str = "127.0.0.1") -> None:
        self.server = await asyncio.start_server(self._serve, host, self.port)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def calls(self) -> list[Heard]:
        """What was heard from clients, without the sidecar's own handshakes."""
        return [h for h in self.heard if b'"mcpace"' not in h.body and b"mcpace-own" not in h.body]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(li[15:]) for li in head.lower().split(b"\r\n") if li.startswith(b"content-length:")),
                0,
            )
            heard = Heard(head + await reader.readexactly(length), reader, writer)
            self.heard.append(heard)
            answer = self.answer(heard)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                async for piece in answer:
                    writer.write(piece)
                    await writer.drain()
            await writer.drain()
            if writer.is_closing():
                break


def json_answer(body: bytes, status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status, extra, len(body), body,
    )  # fmt: skip


RESULT = b'{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}'
"""What a tool has to say that says nothing."""
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
"""How a stream of events begins, which then comes in chunks."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    await server.start()
    yield server
    await server.stop()


class Running:
    """A sidecar under test, and raw ways to talk to it."""

    def __init__(self, sidecar: Sidecar, config: dict[str, Any], waiting: asyncio.Task[None]) -> None:
        self.sidecar = sidecar
        self.config = config
        self.waiting = waiting
        self.admin, self.data = (address.port for address in sidecar.listening)
        self.url = f"http://127.0.0.1:{self.data}/mcp"

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

    async def busy(self, calls: int) -> None:
        """Wait until so many are in flight."""
        await until(lambda: len(self.sidecar.plane.in_flight) == calls, f"{calls} calls to be in flight")

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


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts sidecars: an upstream port, a configuration, options of Options."""
    running: list[Running] = []

    async def begin(upstream: int, config: dict[str, Any] | None = None, **options: Any) -> Running:
        current = config if config is not None else {}
        host = options.pop("host", "127.0.0.1")
        listen = options.pop("listen", "127.0.0.1")
        sidecar = Sidecar(
            Options(
                load=lambda: parse(SidecarConfig, current),
                watched=options.pop("watched", ()),
                listen=Address(listen, 0),
                admin_listen=Address("127.0.0.1", 0),
                upstream=Address(host, upstream),
                **options,
            )
        )
        await sidecar.start()
        waiting = asyncio.get_running_loop().create_task(sidecar.wait())
        running.append(Running(sidecar, current, waiting))
        return running[-1]

    yield begin
    for each in running:
        each.sidecar.end()
        await each.waiting

"""Several replicas of a server, each a sidecar and a server process, behind a plain Service.

A replica has an address of its own (127.0.0.2, 127.0.0.3, …), as a pod has, and the same ports on it. The
Service spreads requests, not connections, in turns over those that are ready: harder than any real one. Or it
sends all of a client's to one of them, for as long as that is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from tests.kit.programs import ROOT
from tests.kit.redis import RedisServer
from tests.kit.service import Service
from tests.kit.vanishing import vanish
from tests.kit.waiting import DEADLINE, STARTING, until
from tools.packages.install import modules, node, python_v1
from tools.ports import free_port

Part = Literal["server", "sidecar"]
KEY = "5e" * 32
SERVER = [str(python_v1()), str(ROOT / "tests/clients/session_server.py")]


class Replica:
    """One: its two processes."""

    def __init__(self, replicas: Replicas, number: int) -> None:
        self._replicas = replicas
        self.address = f"127.0.0.{number + 2}"
        self.ready = False
        """Whether the Service sends requests here."""
        self.processes: dict[Part, asyncio.subprocess.Process] = {}
        self.environment: dict[str, str] = {}
        """What its processes alone are told."""
        self.ahead = 0.0
        """Seconds by which its sidecar's clock is."""

    def command(self, part: Part) -> list[str]:
        r = self._replicas
        if part == "server":
            return r.server
        return [
            sys.executable, *self._program, "sidecar", "--config", str(r.config), "--name", "ns/session",
            "--listen", f"{self.address}:{r.data}", "--admin-listen", f"{self.address}:{r.admin}",
            "--upstream", f"http://{self.address}:{r.port}",
            "--relay-listen", f"{self.address}:{r.relay}",
            "--peers", ",".join(each.address for each in r.all) + f":{r.relay}",
        ]  # fmt: skip

    @property
    def place(self) -> tuple[str, int]:
        """Where clients' requests come in."""
        return self.address, self._replicas.data

    @property
    def url(self) -> str:
        """The same, of this replica alone."""
        return "http://{}:{}/mcp".format(*self.place)

    @property
    def _program(self) -> list[str]:
        return ["-m", "tests.kit.ahead", str(self.ahead)] if self.ahead else ["-m", "mcpace_cli"]

    async def start(self, *parts: Part) -> None:
        """Start its processes, or those that are named; ready once both answer."""
        r = self._replicas
        for part in parts or ("server", "sidecar"):
            with (r.folder / f"{part}-{self.address}.log").open("a") as log:
                self.processes[part] = await asyncio.create_subprocess_exec(
                    *self.command(part), stdout=log, stderr=log, cwd=r.folder,
                    env=os.environ | {"HOST": self.address, "PORT": str(r.port), "DONE": str(r.folder / "done")}
                    | {"MCPACE_SESSION_KEY": KEY} | ({"PYTHONPATH": str(ROOT)} if self.ahead else {})
                    | r.environment | self.environment,
                )  # fmt: skip
        await until(self._answers, f"{self.address} to answer; its logs lie in {r.folder}", STARTING)
        self.ready = True

    async def _answers(self) -> bool:
        for part, process in self.processes.items():
            assert process.returncode is None, f"the {part} of {self.address} has ended: {self.logs(part)}"
        return (await self.asks("/readyz")).startswith(b"HTTP/1.1 200 ")

    async def asks(self, path: str) -> bytes:
        """What its admin port answers; empty: nothing."""
        try:
            reader, writer = await asyncio.open_connection(self.address, self._replicas.admin)
        except OSError:
            return b""
        with contextlib.suppress(OSError):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read(-1)
            writer.close()
            return answer
        return b""

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = (await self.asks("/metrics")).decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    async def leave(self, within: float = DEADLINE) -> bool:
        """End as a pod does: no new calls, drained, then told to end; whether nothing was left in flight.
        `within`: seconds in which it must be drained.
        """  # noqa: D205 - because it reads on
        self.ready = False
        self.processes["sidecar"].send_signal(signal.SIGUSR1)
        async with asyncio.timeout(within):
            answer = await self.asks("/drained")
        await self.kill("server", by=signal.SIGTERM)
        await self.kill("sidecar", by=signal.SIGTERM)
        return b'"drained":true' in answer

    def vanish(self) -> None:
        """Be gone with its node, without a word to anybody: what is sent to it is not even acknowledged."""
        self.ready = False
        for process in self.processes.values():
            vanish(process.pid)

    async def kill(self, *parts: Part, by: signal.Signals = signal.SIGKILL) -> None:
        """End its processes, or those that are named, and wait for that; without a sidecar it leaves the Service."""
        if not parts or "sidecar" in parts:
            self.ready = False
        ending = [self.processes.pop(part) for part in parts or tuple(self.processes)]
        for process in ending:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(by)
                process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(DEADLINE):
            for process in ending:
                await process.wait()

    def logs(self, part: Part) -> str:
        return (self._replicas.folder / f"{part}-{self.address}.log").read_text()


class Replicas(Service):
    """All of them, and the Service that any client may use."""

    def __init__(
        self,
        folder: Path,
        number: int,
        config: dict[str, Any],
        server: list[str],
        environment: dict[str, str],
    ) -> None:
        self.folder = folder
        self.server = server
        self.environment = environment
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump(config))
        self.port, self.data, self.admin, self.relay = (free_port() for _ in range(4))
        self.all = [Replica(self, each) for each in range(number)]
        super().__init__(self.all)
        self._services: list[Service] = []

    @property
    def done(self) -> list[dict[str, Any]]:
        """What the servers have done."""
        path = self.folder / "done"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def start(self) -> None:
        await super().start()
        await asyncio.gather(*(replica.start() for replica in self.all))

    async def service(self, begins: int, goes_on: int) -> Service:
        """A Service for clients whose sessions begin at one replica, and go on through another."""
        made = Service(self.all)
        made.begins, made.goes_on = begins, goes_on
        await made.start()
        self._services.append(made)
        return made

    def holder(self, process: str) -> int:
        """Which replica's server this is."""
        pids = [each.processes["server"].pid if "server" in each.processes else 0 for each in self.all]
        return pids.index(int(process))

    async def end(self) -> None:
        for service in (*self._services, self):
            await Service.end(service)
        for replica in self.all:
            await replica.kill()


@contextlib.asynccontextmanager
async def replicas(
    folder: Path,
    number: int = 3,
    config: dict[str, Any] | None = None,
    server: list[str] = SERVER,
    clocks: Sequence[float] = (),
    **environment: str,
) -> AsyncIterator[Replicas]:
    """So many replicas of a server, which end with the block. `environment`: of all their processes.

    `clocks`: by how many seconds that of each sidecar is ahead.
    """
    made = Replicas(folder, number, config or {}, server, environment)
    for replica, ahead in zip(made.all, clocks, strict=False):
        replica.ahead = ahead
    try:
        await made.start()
        yield made
    finally:
        await made.end()


Started = Callable[..., contextlib.AbstractAsyncContextManager[Replicas]]
"""Starts replicas: how many, and their configuration."""


def starting(request: pytest.FixtureRequest, folder: Path, **environment: str) -> Started:
    """They share a Redis, empty before, where the parameter of a fixture is `redis`; else they know each
    other only. `environment`: of all their processes.
    """  # noqa: D205 - because it reads on

    @contextlib.asynccontextmanager
    async def start(number: int = 3, config: dict[str, Any] | None = None) -> AsyncIterator[Replicas]:
        more: dict[str, Any] = {**environment}
        if request.param == "redis":
            redis_server: RedisServer = request.getfixturevalue("redis_server")
            with redis_server.client() as store:
                store.flushall()
            more["MCPACE_LIMITS_URL"] = redis_server.url
        async with replicas(folder, number, config, **more) as made:
            yield made

    return start


CLIENTS = {
    "python v1": ("session_python.py", "legacy"),
    "python v2": ("session_python.py", "legacy"),
    "typescript v1": ("session_typescript.mjs", "1"),
    "typescript v2": ("session_typescript.mjs", "2"),
}
"""The official clients that hold sessions."""
PAIRS = {
    "python v1, the pair": ("session_python.py", "sse"),
    "python v2, the pair": ("session_python.py", "sse"),
}
"""Those that speak the pair of 2024-11-05."""


class Client:
    """One official client's session, led from here."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.heard: list[dict[str, Any]] = []
        """What the server said by itself, in order."""
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {0: asyncio.Future()}
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "heard" in told:
                self.heard.append(told)
            elif (waiting := self._waiting.pop(told["id"], None)) is not None and not waiting.done():
                waiting.set_result(told)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(AssertionError(f"{self.name} has ended: {await self.said()}"))

    async def said(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    async def begun(self) -> Any:
        async with asyncio.timeout(STARTING):
            return (await self._waiting[0])["result"]

    def ask(self, do: str, **more: Any) -> asyncio.Future[dict[str, Any]]:
        """What becomes of a request, later: its `result` or its `error`."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": do, **more}).encode() + b"\n")
        return future

    async def do(self, do: str, **more: Any) -> Any:
        """The result of a request; an error fails the test."""
        async with asyncio.timeout(DEADLINE):
            told = await self.ask(do, **more)
        assert "result" in told, f"{self.name}: {told}"
        return told["result"]

    async def call(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's result."""
        result = await self.do("call", tool=tool, arguments=arguments)
        assert not result.get("isError"), f"{self.name}: {result}"
        return str(result["content"][0]["text"])

    async def hears(self, method: str, **more: Any) -> dict[str, Any]:
        """Wait for what the server says by itself."""

        def found() -> dict[str, Any] | None:
            fits = (each for each in self.heard if {"heard": method, **more}.items() <= each.items())
            return next(fits, None)

        told = await until(found, f"{method} {more} at {self.name}; it heard {self.heard}")
        assert isinstance(told, dict)
        return told

    async def close(self) -> None:
        """End the session as the SDK does."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(DEADLINE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()


@contextlib.asynccontextmanager
async def client(name: str, url: str) -> AsyncIterator[Client]:
    """An official client whose session has begun."""
    script, argument = (CLIENTS | PAIRS)[name]
    programs = {"python v1": python_v1(), "python v2": Path(sys.executable)}
    process = await asyncio.create_subprocess_exec(
        programs.get(name.partition(",")[0], node()), ROOT / "tests/clients" / script, url, argument,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"NODE_MODULES": str(modules())}, limit=2**26,
    )  # fmt: skip
    made = Client(name, process)
    try:
        await made.begun()
        yield made
    finally:
        await made.close()


async def converse(session: Client) -> None:
    """All that a client and its server say to each other in a session: asked, told, and told unasked."""
    assert await session.call("sample", text="hi") == "sampled hi"
    assert await session.call("ask") == "accept Ada"
    told = await session.do("call", tool="slow", arguments={"steps": 3, "seconds": 0.02}, progress=True)
    assert told["content"][0]["text"] == "3 steps"
    assert [each["progress"] for each in session.heard if each["heard"] == "progress"] == [1, 2, 3]
    await session.do("level", level="info")
    await session.do("subscribe", uri="memo://one")
    assert await session.call("say", text="hello") == "said"
    await session.hears("notifications/message", data="hello")
    await session.hears("notifications/tools/list_changed")
    await session.hears("notifications/resources/updated")

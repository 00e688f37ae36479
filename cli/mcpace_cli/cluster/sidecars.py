"""Sidecars that are asked: those of a server in a cluster, or the one of an admin port at a URL.

Whoever answers is not trusted: an answer is as a sidecar's in form and size, or it is said who gave it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from mcpace_cli.cluster.access import ASKING, Access, SilentError, Where, reached
from mcpace_cli.target import LOCAL, credential, shown
from mcpace_operator.cluster.client import CONNECTIONS, ApiError
from mcpace_operator.polling.sidecars import LONGEST
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Pod
from mcpace_sidecar.contract.environment import ADMIN_TOKEN
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT
from mcpace_sidecar.errors import ConfigError

T = TypeVar("T")

URL: Final = re.compile(r"https?://", re.IGNORECASE)


class Sidecar(Protocol):
    """One sidecar's admin port."""

    @property
    def name(self) -> str:
        """What messages call it."""

    async def ask(self, path: str, query: Mapping[str, str], body: Any = None) -> bytes:
        """What it answers; SilentError, MissingRightError, ApiError."""


@dataclass(frozen=True, slots=True)
class Replica:
    """That of a pod, reached through the API server."""

    access: Access
    key: Key
    name: str
    port: int
    token: str = field(repr=False)

    async def ask(self, path: str, query: Mapping[str, str], body: Any = None) -> bytes:
        """What it answers; SilentError, MissingRightError, ApiError."""
        return await self.access.ask(self.key, self.name, self.port, self.token, path, query, body)


@dataclass(frozen=True, slots=True)
class AdminPort:
    """That of a URL: a laptop's, or one that a person has forwarded."""

    name: str
    """The URL, without a path."""
    token: str | None = field(repr=False)

    @classmethod
    def of(cls, url: str) -> AdminPort:
        """Of an admin port's URL, or of the usual data port's, which the usual admin port is beside."""
        try:
            parts = urlsplit(url)
            place, port = parts.hostname, parts.port
        except ValueError:
            place = port = None
        if not place:
            raise ConfigError(f"{shown(url)} is no URL; write for example http://127.0.0.1:{ADMIN_PORT}")
        if port == DATA_PORT and place in LOCAL:
            port = ADMIN_PORT
        host = f"[{place}]" if ":" in place else place
        name = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
        return cls(name, credential(ADMIN_TOKEN, "token"))

    async def ask(self, path: str, query: Mapping[str, str], body: Any = None) -> bytes:
        """What it answers; SilentError."""
        headers = {"Accept-Encoding": "identity"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        method = "GET" if body is None else "POST"
        here = urlsplit(self.name).hostname in LOCAL
        try:
            async with (
                asyncio.timeout(ASKING),  # of httpx2 each piece has as long
                httpx2.AsyncClient(headers=headers, timeout=ASKING, trust_env=not here) as http,
                http.stream(method, self.name + path, params=dict(query) or None, json=body) as answer,
            ):
                text = bytearray()
                async for piece in answer.aiter_raw():
                    text += piece
                    if len(text) > LONGEST:
                        raise SilentError(f"{self.name}{path} has more than {LONGEST >> 20} MiB")
        except TimeoutError:
            raise SilentError(f"{self.name} does not answer within {ASKING:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SilentError(f"{self.name} does not answer: {error or type(error).__name__}") from None
        if answer.status_code == 401:
            raise SilentError(f"{self.name} wants its admin token: set {ADMIN_TOKEN} as its sidecar has it")
        if answer.status_code != 200:
            said = text.decode("utf-8", "replace").strip()[:200]
            raise SilentError(f"{self.name}{path} is answered HTTP {answer.status_code}: {said}. {_WHICH}")
        return bytes(text)


_WHICH: Final = "Is it a sidecar's admin port? `mcpace run` names it as the page to look at."


@dataclass(frozen=True, slots=True)
class Asked:
    """A server whose sidecars can be asked."""

    name: str
    sidecars: Sequence[Sidecar]


@asynccontextmanager
async def asked(whom: str, where: Where) -> AsyncIterator[Asked]:
    """The sidecars of a server, by its name or by a URL; MissingRightError, ConfigError, ApiError."""
    if URL.match(whom):
        port = AdminPort.of(whom)
        yield Asked(port.name, [port])
        return
    async with reached(where) as access:
        server = Server.from_body(await access.server(whom))
        yield Asked(str(server.key), await replicas(access, server))


async def replicas(access: Access, server: Server) -> list[Replica]:
    """The sidecars of a server's pods; SilentError where none runs, MissingRightError, ApiError."""
    found = [Pod.of(each) for each in await access.pods(server.key)]
    pods = [pod.name for pod in found if pod.address and not pod.deleting]
    if not pods:
        raise SilentError(f"No pod of {server.key} runs, so nobody can be asked")
    token = await access.token(server.key)
    port = admin_port(server.spec)
    return [Replica(access, server.key, name, port, token) for name in sorted(pods)]


def admin_port(spec: Mapping[str, Any]) -> int:
    """The port of a manifest, be that otherwise as it may."""
    sidecar = spec.get("sidecar")
    port = sidecar.get("adminPort") if isinstance(sidecar, Mapping) else None
    return port if isinstance(port, int) else ADMIN_PORT


@dataclass(frozen=True, slots=True)
class Heard(Generic[T]):
    """What some sidecars said."""

    told: Mapping[str, T]
    silent: Mapping[str, str]
    """Why each of the others did not."""


async def hear(
    sidecars: Sequence[Sidecar],
    path: str,
    kind: type[T],
    query: Mapping[str, str] | None = None,
    body: Any = None,
) -> Heard[T]:
    """Ask all of them; MissingRightError, SilentError where none answers."""
    # Whoever waited for a connection would have less time to answer in.
    slots = asyncio.Semaphore(CONNECTIONS)

    async def one(sidecar: Sidecar) -> T | str:
        try:
            async with slots:
                answer = await sidecar.ask(path, query or {}, body)
            return msgspec.json.decode(answer, type=kind)
        except SilentError as error:
            return str(error)
        except ApiError as error:
            return f"{sidecar.name}: {error}"
        except (msgspec.DecodeError, RecursionError) as error:
            return f"{sidecar.name}{path} is not answered as by a sidecar: {error}"

    answers = await asyncio.gather(*(one(each) for each in sidecars))
    said = dict(zip((each.name for each in sidecars), answers, strict=True))
    silent = {name: each for name, each in said.items() if isinstance(each, str)}
    told = {name: each for name, each in said.items() if not isinstance(each, str)}
    if not told:
        raise SilentError("\n".join(silent.values()))
    return Heard(told, silent)

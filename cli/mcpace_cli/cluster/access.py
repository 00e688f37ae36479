"""A cluster as people reach it: with the rights of whoever types, and a right that is missing is named.

Sidecars are asked through the API server (`pods/proxy`), over the connection that is there anyway: no port
is opened on this machine, RBAC says who may, and an audit log says who did. The API server keeps
`Authorization` to itself, so their token goes in a header of its own.
Source: the Kubernetes API, v1, "Get connect proxy path" of pods.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import quote

import aiohttp

from mcpace_operator.children.secret import ADMIN
from mcpace_operator.cluster.client import TIMEOUT, ApiError, Cluster
from mcpace_operator.polling.sidecars import LONGEST
from mcpace_operator.resource.models import API_VERSION, GROUP, KIND, PLURAL
from mcpace_operator.resource.server import SERVER_LABEL, Key, Server
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.contract.surface import ADMIN_TOKEN_HEADER
from mcpace_sidecar.errors import ConfigError, McpaceError

ASKING: Final = 10.0
"""Seconds that a sidecar may take, with the way to it and back."""
LONGEST_LINE: Final = 16 << 10
"""Bytes of a log's line that are shown."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""Source: Kubernetes, "Object Names and IDs"."""


class Right(NamedTuple):
    """What RBAC allows somebody, or not."""

    verb: str
    resource: str
    namespace: str | None
    """None: in all of them."""
    name: str = ""
    group: str = ""

    def __str__(self) -> str:
        which = f"{self.resource}/{self.name}" if self.name else self.resource
        place = f"the namespace {self.namespace}" if self.namespace is not None else "all namespaces"
        return f"{self.verb} {which} in {place}"

    @property
    def rule(self) -> str:
        """What a Role (or ClusterRole) that gives it says under `rules`."""
        names = f"resourceNames: [{self.name}], " if self.name else ""
        group = self.group or '""'
        return f"- {{apiGroups: [{group}], resources: [{self.resource}], {names}verbs: [{self.verb}]}}"


class MissingRightError(McpaceError):
    """Somebody may not do what they ask for."""

    def __init__(self, right: Right) -> None:
        kind = "Role" if right.namespace is not None else "ClusterRole"
        super().__init__(f"You may not {right}. A {kind} lets you by this rule: {right.rule}")
        self.right = right


class SilentError(McpaceError):
    """Who was asked does not answer, or not as one of its kind does."""


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and where in it."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    """None: the one that the context names, or `default`."""
    everywhere: bool = False
    """Whether all namespaces are meant."""


class Access:
    """A cluster, and a namespace of it."""

    def __init__(self, cluster: Cluster, namespace: str | None) -> None:
        self._cluster = cluster
        self.namespace = namespace
        """None: all of them."""

    async def servers(self) -> list[Server]:
        """All McpServers; MissingRightError, ConfigError where the cluster knows none, ApiError."""
        try:
            with _needs(Right("list", PLURAL, self.namespace, group=GROUP)):
                found = [each async for each in self._cluster.items(KIND, namespace=self.namespace)]
        except ApiError as error:
            if error.status == 404:
                raise ConfigError(
                    f"This cluster knows no {KIND}: install the chart, or choose another by --context"
                ) from None
            raise
        return [Server.from_body(each) for each in found]

    async def server(self, name: str) -> dict[str, Any]:
        """One McpServer, as the API server has it; the same errors, and ConfigError where there is none."""
        namespace = self._one_namespace()
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a {KIND}: write small letters, digits, - and .")
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}"
        try:
            with _needs(Right("get", PLURAL, namespace, name, GROUP)):
                return await self._cluster.read(path)
        except ApiError as error:
            if error.status != 404:
                raise
        names = [each.key.name for each in await self.servers()]
        listed = f"there are {', '.join(sorted(names)[:20])}" if names else "it has none"
        meant = Vocabulary(names).meant(name)
        raise ConfigError(f"The namespace {namespace} has no {KIND} {name}{meant} ({listed})")

    async def children(self, kind: str, key: Key) -> list[dict[str, Any]]:
        """What a server has of a kind, by its label; ApiError."""
        selector = f"{SERVER_LABEL}={key.name}"
        found = self._cluster.items(kind, namespace=key.namespace, selector=selector)
        return [each async for each in found]

    async def pods(self, key: Key) -> list[dict[str, Any]]:
        """A server's pods; MissingRightError, ApiError."""
        with _needs(Right("list", "pods", key.namespace)):
            return await self.children("Pod", key)

    async def read(self, path: str, right: Right | None, **query: str) -> dict[str, Any]:
        """What stands at a path of the API; MissingRightError where that takes a right, ApiError."""
        if right is None:
            return await self._cluster.read(path, **query)
        with _needs(right):
            return await self._cluster.read(path, **query)

    async def token(self, key: Key) -> str:
        """What opens the admin ports of a server's sidecars; MissingRightError, ConfigError, ApiError."""
        path = f"/api/v1/namespaces/{key.namespace}/secrets/{key.secret}"
        try:
            with _needs(Right("get", "secrets", key.namespace, key.secret)):
                secret = await self._cluster.read(path)
        except ApiError as error:
            if error.status != 404:
                raise
            raise ConfigError(
                f"The namespace {key.namespace} has no Secret {key.secret}: no operator has made it yet"
            ) from None
        try:
            return base64.b64decode((secret.get("data") or {})[ADMIN]).decode("ascii").strip()
        except (LookupError, binascii.Error, UnicodeDecodeError):
            raise ConfigError(f"The Secret {key.namespace}/{key.secret} holds no {ADMIN}") from None

    async def ask(
        self,
        key: Key,
        pod: str,
        port: int,
        token: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
    ) -> bytes:
        """What a sidecar answers; MissingRightError, SilentError, ApiError."""
        method, verb = ("POST", "create") if body is not None else ("GET", "get")
        where = f"/api/v1/namespaces/{key.namespace}/pods/{quote(pod)}:{port}/proxy{path}"
        headers = {ADMIN_TOKEN_HEADER: token, "Accept-Encoding": "identity"}
        async with self._cluster.open(method, where, query, body, headers, ASKING) as answer:
            text = await _bounded(answer)
            said = _status(text)
            if answer.status == 403 and said is not None:
                raise MissingRightError(Right(verb, "pods/proxy", key.namespace))
            if answer.status != 200:
                words = text.decode("utf-8", "replace").strip()[:500] if said is None else said
                raise SilentError(_explained(pod, answer.status, words, by_api=said is not None))
            return text

    async def log(
        self, key: Key, pod: str, container: str, *, tail: int, follow: bool = False
    ) -> AsyncGenerator[bytes, None]:
        """A container's lines, without their ends; MissingRightError, SilentError, ApiError."""
        where = f"/api/v1/namespaces/{key.namespace}/pods/{quote(pod)}/log"
        query = {"container": container, "tailLines": str(tail)} | ({"follow": "true"} if follow else {})
        silence = None if follow else TIMEOUT
        async with self._cluster.open("GET", where, query, seconds=None, silence=silence) as answer:
            if answer.status == 403:
                raise MissingRightError(Right("get", "pods/log", key.namespace))
            if answer.status != 200:
                said = _status(await _bounded(answer))
                raise SilentError(f"{pod}/{container}: {said or f'HTTP {answer.status}'}")
            rest = b""
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line[:LONGEST_LINE]
                rest = rest[:LONGEST_LINE]
            if rest:
                yield rest

    def _one_namespace(self) -> str:
        assert self.namespace is not None, "a name is asked for in one namespace"
        return self.namespace


@asynccontextmanager
async def reached(where: Where) -> AsyncIterator[Access]:
    """A cluster; ConfigError where none is known."""
    # Who names one means it, in a pod too.
    kubeconfig = where.kubeconfig or os.environ.get("KUBECONFIG")
    if where.namespace is not None and not _NAME.fullmatch(where.namespace):
        raise ConfigError(f"{where.namespace!r} is no namespace: write small letters, digits and -")
    _end_in_order()
    cluster = await Cluster.connect(kubeconfig, where.context)
    try:
        yield Access(cluster, None if where.everywhere else where.namespace or cluster.namespace)
    finally:
        await cluster.close()


def _end_in_order() -> None:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does.

    The client of Kubernetes keeps a kubeconfig's key in a file, and deletes that when Python ends.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


@contextmanager
def _needs(right: Right) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.status == 403:
            raise MissingRightError(right) from None
        raise


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > LONGEST:
            raise SilentError(f"An answer has more than {LONGEST >> 20} MiB, which none of a sidecar's has")
    return bytes(body)


def _status(text: bytes) -> str | None:
    """The words of the API server's own; None where what lies behind it has answered."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("kind") != "Status":
        return None
    return str(body.get("message") or body.get("reason") or "")


def _explained(pod: str, status: int, words: str, *, by_api: bool) -> str:
    if by_api and status == 404:
        return f"{pod} is not there any more"
    if by_api:
        return (
            f"The API server does not reach {pod}: {words[:500]}. Where a NetworkPolicy keeps it away"
            " (`networkPolicy`), add it to the chart's `servers.monitoring`."
        )
    if status == 401:
        return f"{pod} does not take the Secret's token: its sidecar is older, or starts anew; try again"
    return f"{pod} answers HTTP {status}: {words}"

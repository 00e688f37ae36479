"""A server, spoken to by the official client: over HTTP, by the older pair, or as a command's process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import METHOD_NOT_FOUND, REQUEST_TIMEOUT, Implementation
from pydantic import ValidationError

from mcpace_cli.aside import aside
from mcpace_cli.child import servers_environment
from mcpace_cli.target import Target
from mcpace_sidecar import __version__
from mcpace_sidecar.call.refusals import LIMITED
from mcpace_sidecar.contract.environment import API_KEY, TOKEN
from mcpace_sidecar.errors import ConfigError, McpaceError, words_of

T = TypeVar("T")
Way = Literal["http", "sse", "stdio"]
"""How a server is spoken to."""

HANDSHAKE: Final = 20.0
"""Seconds within which a server that listens introduces itself, and a list is listed."""
STARTING: Final = 120.0
"""The same of a process, which may have to be downloaded first."""
PAUSE: Final = 1.0
"""Seconds between two attempts, while it is waited for."""
_GIVEN: Final = (
    f"A key is given by {API_KEY} (in another header than X-API-Key with --api-key-header), a bearer"
    f" token by {TOKEN}."
)
_NO_ROOM: Final = 50300
PASSING: Final = (50200, _NO_ROOM, 50400)
"""Errors of a server that is not there, or not yet."""
_MOST_PAGES: Final = 1_000
"""Pages of one list: who has more may have no end."""
_ELSEWHERE: Final = (400, 404, 405, 406, 415)
"""What an endpoint of the older pair answers to a POST. Source: MCP, transports."""
_LIMIT: Final = re.compile(r'"([^"]+)";r=(\d{1,15});t=(\d{1,15})(?!\d)')
"""An Integer has fifteen digits at most. Source: RFC 9651, 3.3.1."""
_ELSE: Final = "; is its MCP endpoint elsewhere, such as at /mcp?"
_UNREADABLE: Final = "Failed to parse JSON response"
_OTHER_TYPE: Final = "Unexpected content type: "
"""How the client begins to say that an answer was none."""
_CLIENTS: Final = (
    "Server returned an error response",
    "Not Found",
    "Session terminated",
    "Connection closed",
)
"""What the client says of its own accord where an answer held no words of the server's."""


class AskError(McpaceError):
    """Why a server was not asked, or did not answer. `passing`: whether it may answer later."""

    def __init__(self, words: str, *, passing: bool) -> None:
        super().__init__(words)
        self.passing = passing


class Limit(NamedTuple):
    """What is left of one limit."""

    name: str
    remaining: int
    reset_seconds: int


class Heard:
    """What the heads of its answers told."""

    def __init__(self) -> None:
        self.status = 0
        self.called = False
        """Whether a tool was called, which may have done its work whatever came of it."""
        self.limits: tuple[Limit, ...] = ()

    async def __call__(self, response: httpx2.Response) -> None:
        """Take the head of one answer."""
        if response.request.method == "POST":
            self.status = response.status_code
            if told := _LIMIT.findall(response.headers.get("RateLimit", "")):
                self.limits = tuple(Limit(name, int(left), int(seconds)) for name, left, seconds in told)


class Link:
    """A server that has introduced itself."""

    def __init__(self, client: Client, heard: Heard, transport: Way) -> None:
        self.client = client
        self.heard = heard
        self.transport = transport

    async def call(self, tool: str, arguments: dict[str, Any], seconds: float) -> Any:
        """Call a tool, which may take so long. Whatever fails from here on is not tried again."""
        self.heard.called = True
        return await self.client.call_tool(tool, arguments, read_timeout_seconds=seconds)

    async def listed(
        self, what: Literal["tools", "resources", "resource_templates", "prompts"], *, every: bool
    ) -> Listed:
        """What the server lists; its first page, or `every` one. Nothing where it knows no such list."""
        listing = getattr(self.client, f"list_{what}")
        found: list[dict[str, Any]] = []
        cursor, seen = None, set()
        while True:
            try:
                page = await listing(cursor=cursor)
            except MCPError as error:
                if error.code == METHOD_NOT_FOUND and cursor is None:
                    return Listed(found, more=False)
                raise
            found += [
                each.model_dump(mode="json", by_alias=True, exclude_none=True)
                for each in getattr(page, what)
            ]
            cursor = page.next_cursor
            if not cursor or cursor in seen or not every:
                return Listed(found, more=bool(cursor) and cursor not in seen)
            seen.add(cursor)
            if len(seen) == _MOST_PAGES:
                many = f"{what.replace('_', ' ')} on more than {_MOST_PAGES:,} pages"
                words = f"it lists {many}, maybe without end."
                raise AskError(words, passing=False)


class Listed(NamedTuple):
    """Part of a list, or all of it."""

    items: list[dict[str, Any]]
    more: bool
    """Whether there are further pages."""


def ask(whom: Target, do: Callable[[Link], Awaitable[T]], patience: float = 0.0) -> T:
    """Connect, and do something with the link; AskError.

    `patience`: seconds in which it is tried again while the server is not there yet.
    """
    return asyncio.run(asking(whom, do, patience))


async def asking(whom: Target, do: Callable[[Link], Awaitable[T]], patience: float = 0.0) -> T:
    """The same, among other things that are done at once."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)  # what it has to say is said by an AskError
    deadline = time.monotonic() + patience
    while True:
        try:
            return await _once(whom, do)
        except AskError as error:
            if not error.passing or time.monotonic() > deadline:
                raise
            await asyncio.sleep(PAUSE)


async def _once(whom: Target, do: Callable[[Link], Awaitable[T]]) -> T:
    if whom.command:
        return await _over(whom, "stdio", do)
    if whom.transport != "auto":
        return await _over(whom, whom.transport, do)
    heard = Heard()
    try:
        return await _over(whom, "http", do, heard)
    except AskError:
        if heard.status not in _ELSEWHERE or not await _speaks_pair(whom):
            raise
    return await _over(whom, "sse", do)


async def _over(
    whom: Target, transport: Way, do: Callable[[Link], Awaitable[T]], heard: Heard | None = None
) -> T:
    heard = heard or Heard()
    try:
        async with contextlib.AsyncExitStack() as stack:
            way = await _way(whom, transport, heard, stack)
            patience = STARTING if transport == "stdio" else HANDSHAKE
            info = Implementation(name="mcpace", version=__version__)
            client = Client(way, read_timeout_seconds=patience, client_info=info, cache=None)
            return await do(Link(await stack.enter_async_context(client), heard, transport))
    except Exception as error:  # noqa: BLE001 - because the client raises groups of whatever it met
        raise _explained(error, whom, heard) from None


async def _way(whom: Target, transport: Way, heard: Heard, stack: contextlib.AsyncExitStack) -> Any:
    if transport == "stdio":
        program, *arguments = whom.command
        started = StdioServerParameters(command=program, args=arguments, env=servers_environment({}))
        return stdio_client(started, errlog=await stack.enter_async_context(aside()))
    timeout = httpx2.Timeout(HANDSHAKE, read=None)  # the client itself knows how long it waits
    hooks: Mapping[str, list[Callable[..., Any]]] = {"response": [heard]}
    if transport == "sse":

        def made(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(
                headers=headers, timeout=timeout, auth=auth, event_hooks=hooks, trust_env=whom.elsewhere
            )

        return sse_client(whom.url, dict(whom.headers), timeout=HANDSHAKE, httpx_client_factory=made)
    http = httpx2.AsyncClient(
        headers=dict(whom.headers), timeout=timeout, event_hooks=hooks, trust_env=whom.elsewhere
    )
    return streamable_http_client(whom.url, http_client=await stack.enter_async_context(http))


async def _speaks_pair(whom: Target) -> bool:
    """Whether a GET is answered by an event stream, as the older pair's first endpoint does."""
    headers = dict(whom.headers) | {"Accept": "text/event-stream"}
    try:
        async with (
            httpx2.AsyncClient(headers=headers, timeout=HANDSHAKE, trust_env=whom.elsewhere) as http,
            http.stream("GET", whom.url) as response,
        ):
            return response.status_code == 200 and response.headers.get("content-type", "").startswith(
                "text/event-stream"
            )
    except httpx2.HTTPError:
        return False


def _explained(error: Exception, whom: Target, heard: Heard) -> AskError | Exception:
    """What went wrong, in words; the error itself where it is a fault of ours."""
    cause = _first(error)
    if isinstance(cause, ConfigError):
        return cause
    said, passing = (
        (str(cause), cause.passing) if isinstance(cause, AskError) else _said(cause, whom, heard)
    )
    passing = passing and (not heard.called or _unsent(cause))
    return AskError(f"{whom.name}: {said}", passing=passing) if said else cause


def _unsent(cause: Exception) -> bool:
    """Whether a call has surely come to no server."""
    if isinstance(cause, MCPError):
        return cause.code == _NO_ROOM
    return isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)


def _said(cause: Exception, whom: Target, heard: Heard) -> tuple[str, bool]:
    if isinstance(cause, MCPError):
        if whom.command and cause.message in _CLIENTS:
            return "its process ended, or closed its output, before it answered.", True
        return _refused(cause, heard)
    if isinstance(cause, httpx2.HTTPStatusError):
        return f"it answers HTTP {cause.response.status_code}.", True
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        how = f"not within {HANDSHAKE:g} s" if isinstance(cause, httpx2.ConnectTimeout) else _why(cause)
        between = ", by way of the environment's proxy" if _proxied(whom) else ""
        return f"The server does not accept connections on {whom.address}{between} ({how}).", True
    if isinstance(cause, httpx2.HTTPError):
        return f"the connection failed: {cause or type(cause).__name__}.", True
    if isinstance(cause, ValidationError):
        where = ".".join(map(str, cause.errors(include_url=False)[0]["loc"]))
        return f"its answer is none that MCP knows ({cause.title}{f': {where}' * bool(where)}).", True
    if isinstance(cause, TimeoutError):
        return "it did not answer in time.", True
    if isinstance(cause, OSError):
        return f"Cannot start '{whom.command[0]}': {cause.strerror}" if whom.command else words_of(
            cause
        ), False
    if isinstance(cause, RuntimeError | anyio.ClosedResourceError | anyio.BrokenResourceError):
        return str(cause) or "the connection ended.", True
    return "", False


def _proxied(whom: Target) -> bool:
    """Whether the environment names a proxy for it."""
    parts = urlsplit(whom.url)
    return whom.elsewhere and parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _refused(error: MCPError, heard: Heard) -> tuple[str, bool]:
    """What the server, or the sidecar before it, answered; whether a further try might change it."""
    said = str(error.message or "no words").rstrip(".")
    if error.code == LIMITED.code:
        return f"{said}.", False
    if heard.status == 401:
        own = "HTTP 401: a credential is required" if error.message in _CLIENTS else said
        return f"{own}. {_GIVEN}", False
    if error.code == REQUEST_TIMEOUT:
        return "it did not answer in time.", True
    if said.startswith(_UNREADABLE):
        return "its answer is no JSON, or none that MCP knows.", False
    if error.message in _CLIENTS:
        words = f"it answers HTTP {heard.status}" if heard.status >= 400 else "the connection ended"
        return f"{words}{_ELSE}", True
    if said.startswith(_OTHER_TYPE):
        return f"it answers with {said.removeprefix(_OTHER_TYPE)}{_ELSE}", True
    return f"the server refused the call: {said} (error {error.code})", error.code in PASSING


def _why(error: BaseException) -> str:
    """The system's words, from under those of libraries."""
    for each in _beneath(error):
        if isinstance(each, OSError) and (each.errno is not None or each.strerror):
            return words_of(each)
    return str(error)


def _beneath(error: BaseException) -> Iterator[BaseException]:
    yield error
    for part in getattr(error, "exceptions", ()):
        yield from _beneath(part)
    further = error.__cause__ or error.__context__
    if further is not None:
        yield from _beneath(further)


def _first(error: Exception) -> Exception:
    """Of a group the first that says something: what else it holds follows from that."""
    parts = [error]
    leaves: list[Exception] = []
    while parts:
        each = parts.pop(0)
        if isinstance(each, ExceptionGroup):
            parts = [*each.exceptions, *parts]
        else:
            leaves.append(each)
    closed = anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream
    return next((leaf for leaf in leaves if not isinstance(leaf, closed)), leaves[0])

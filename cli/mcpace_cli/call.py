"""`mcpace call`: one tool called, or all of them listed, over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from mcpace_sidecar.call.refusals import LIMITED
from mcpace_sidecar.contract.config import parse_strictly
from mcpace_sidecar.contract.config.clients import Clients
from mcpace_sidecar.contract.environment import API_KEY, TOKEN
from mcpace_sidecar.contract.quantity import seconds
from mcpace_sidecar.contract.surface import DATA_PORT
from mcpace_sidecar.errors import ConfigError, McpaceError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.server.session import HandshakeError, Session, conversation

TIMEOUT = 60.0
"""Seconds that a tool may take."""
_URL = f"write for example http://127.0.0.1:{DATA_PORT}/mcp"
_KEPT = "/%:@!$&'()*+,;=~-._?"
"""What stays as it is in a path or a query."""
_GIVEN = (
    f"A key is given by {API_KEY} (in another header than X-API-Key with --api-key-header), a bearer"
    f" token by {TOKEN}."
)
_PAIR = (
    "this is an event stream of the older SSE pair, and mcpace call speaks streamable HTTP only: call the"
    " server's other endpoint, often /mcp"
)
_BOTH = f"{API_KEY} and {TOKEN} would both go into the header Authorization; set one of them"
_PASSING = (50200, 50300, 50400)
"""Errors of a server that is not there, or not yet."""
PAUSE = 1.0
"""Seconds between two attempts, while it is waited for."""


class _PairError(McpaceError):
    """A server that speaks, but not what we do."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    url: str
    tool: str | None
    arguments: tuple[str, ...]
    wait: str
    api_key_header: str | None
    manifest: Path | None
    name: str | None


def run(asked: Asked) -> None:
    """Print the result as JSON, or the tools; exit code 1 where the tool says that it failed."""
    tool, given = asked.tool, dict(map(_argument, asked.arguments))
    target = Target(asked.url, _key_header(asked))
    result = asyncio.run(_until_answered(target, tool, given, seconds(asked.wait)))
    if tool is None:
        tools = result.get("tools")
        for each in tools if isinstance(tools, list) else ():
            if isinstance(each, dict):
                click.echo(f"{each.get('name')}\t{each.get('description', '')}")
        return
    click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    sys.exit(1 if result.get("isError") else 0)


def _key_header(asked: Asked) -> str:
    """The header of API keys: as asked for, as the manifest says, or the usual one; ConfigError."""
    clients = Clients()
    if asked.manifest is not None:
        # Imported here because most calls read no manifest.
        from mcpace_cli.manifest import read  # noqa: PLC0415 - because of that

        clients = read(asked.manifest, asked.name).spec.clients
    if asked.api_key_header is not None:
        try:
            clients = parse_strictly(Clients, {"apiKeyHeader": asked.api_key_header})
        except ConfigError as error:
            raise ConfigError(f"--api-key-header {asked.api_key_header!r}: {error}") from None
    return clients.api_key_header


def _argument(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a VALUE that is JSON is taken as that, any other as text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text!r} is no argument; write NAME=VALUE, such as city=Paris or days=3")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


class Target:
    """Where a call goes, and the credentials that go with it."""

    def __init__(self, url: str, key_header: str) -> None:
        """ConfigError where it is no URL, or a credential can be in no header."""
        self.url = url
        try:
            parts = urlsplit(url)
            self.tls = parts.scheme == "https"
            address = Address(parts.hostname or "", parts.port or (443 if self.tls else 80))
        except ValueError:
            raise ConfigError(f"{url!r} is no URL; {_URL}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no URL; {_URL}")
        self.address = address
        self.path = quote(parts.path or "/", _KEPT) + (
            f"?{quote(parts.query, _KEPT)}" if parts.query else ""
        )
        self.credential: dict[str, str] = {}
        for variable, header, before, what in (
            (API_KEY, key_header, "", "key"),
            (TOKEN, "Authorization", "Bearer ", "token"),
        ):
            given = variable.read()
            if given is not None and not re.fullmatch("[!-~]+", given):
                raise ConfigError(
                    f"{variable} holds what no {what} can: letters, digits and signs of ASCII alone"
                )
            if given is not None:
                if header.lower() in map(str.lower, self.credential):
                    raise ConfigError(_BOTH)
                self.credential[header] = before + given


async def _until_answered(
    target: Target, tool: str | None, arguments: dict[str, Any], patience: float
) -> Any:
    deadline = time.monotonic() + patience
    while True:
        try:
            with conversation():
                return await _once(target, tool, arguments)
        except McpaceError as error:
            refusal = _refusal(error)
            if refusal or time.monotonic() > deadline:
                raise McpaceError(f"{target.url}: {refusal or error}") from None
            await asyncio.sleep(PAUSE)


def _refusal(error: McpaceError) -> str:
    """What the server, or the sidecar before it, answered that no further try would change."""
    if isinstance(error, _PairError):
        return str(error)
    if not isinstance(error, HandshakeError):
        return ""
    if error.error is None:
        return f"HTTP 401: a credential is required. {_GIVEN}" if error.status == 401 else ""
    code = error.error.get("code")
    said = str(error.error.get("message") or "no words").rstrip(".")
    if code in _PASSING:
        return ""
    if code == LIMITED.code:
        return f"{said}."
    if error.status == 401:
        return f"{said}. {_GIVEN}"
    return f"the server refused the call: {said} (error {code})"


async def _once(target: Target, tool: str | None, arguments: dict[str, Any]) -> Any:
    pool = Pool(target.address, ssl.create_default_context() if target.tls else None)
    session = Session(pool, target.path, target.credential)
    session.timeout = TIMEOUT
    try:
        try:
            await session.discover()
        except HandshakeError:
            await _initialize(session, pool, target)
        if tool is None:
            return await session.call("tools/list", {})
        return await session.call("tools/call", {"name": tool, "arguments": arguments})
    finally:
        await session.end()
        await pool.close()


async def _initialize(session: Session, pool: Pool, target: Target) -> None:
    """Begin in the handshake era; _PairError where only the era before it is spoken."""
    try:
        await session.initialize()
    except HandshakeError as refused:
        if refused.error is None and await _speaks_pair(pool, target):
            raise _PairError(_PAIR) from None
        raise


async def _speaks_pair(pool: Pool, target: Target) -> bool:
    session = Session(pool, target.path, target.credential)
    try:
        with conversation():
            await session.connect_pair()
    except McpaceError:
        return False
    finally:
        await session.end()
    return True

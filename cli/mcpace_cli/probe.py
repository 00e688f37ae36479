"""`mcpace probe`: one tool called by the sidecar's own client, for images, which hold no other."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import click

from mcpace_cli.target import Target
from mcpace_sidecar.contract.environment import API_KEY, TOKEN
from mcpace_sidecar.errors import ConfigError, McpaceError
from mcpace_sidecar.http.pool import Pool
from mcpace_sidecar.server.session import HandshakeError, Session, conversation

_TIMEOUT: Final = 60.0
"""Seconds that the tool may take."""
_PAUSE: Final = 1.0
"""Seconds between two attempts, while it is waited for."""
_FINAL: Final = {401: f". A key is given by {API_KEY}, a bearer token by {TOKEN}.", 403: ""}
"""HTTP statuses that a further attempt would not change -> what to do about it."""


def run(url: str, tool: str, given: tuple[str, ...], wait: float) -> None:
    """Print the result in JSON; exit code 1 where the tool says that it failed. `wait`: seconds."""
    target = Target.of(url)
    result = asyncio.run(_answered(target, {"name": tool, "arguments": dict(map(argument, given))}, wait))
    click.echo(json.dumps(result, indent=2))
    sys.exit(1 if result.get("isError") else 0)


def argument(text: str, texts: Collection[str] = ()) -> tuple[str, Any]:
    """NAME=VALUE; a VALUE that is JSON is taken as that, any other as text, as are all of `texts`."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text!r} is no argument; write NAME=VALUE, such as city=Paris or days=3")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{text!a} is no text in UTF-8") from None
    try:
        given = json.loads(value, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return name, value
    return name, value if name in texts and not isinstance(given, str) else given


def texts(tools: Iterable[Mapping[str, Any]], tool: str) -> set[str]:
    """The arguments for which a tool takes nothing but text, by its input schema."""
    schema = next((each.get("inputSchema") for each in tools if each.get("name") == tool), None)
    properties = schema.get("properties") if isinstance(schema, dict) else None
    found = properties.items() if isinstance(properties, dict) else ()
    return {name for name, each in found if isinstance(each, dict) and each.get("type") == "string"}


def _no_number(word: str) -> Any:
    """NaN and Infinity are JSON nowhere but in Python."""
    raise ValueError(word)


async def _answered(target: Target, call: dict[str, Any], wait: float) -> dict[str, Any]:
    deadline = time.monotonic() + wait
    while True:
        try:
            with conversation():
                return await _once(target, call)
        except McpaceError as error:
            status = error.status if isinstance(error, HandshakeError) else 0
            if status in _FINAL or time.monotonic() > deadline:
                raise McpaceError(f"{target.name}: {error}{_FINAL.get(status, '')}") from None
            await asyncio.sleep(_PAUSE)


async def _once(target: Target, call: dict[str, Any]) -> dict[str, Any]:
    pool = Pool(target.address, ssl.create_default_context() if target.tls else None)
    session = Session(pool, target.path, target.headers)
    session.timeout = _TIMEOUT
    try:
        await session.begin()
        return await session.call("tools/call", call)
    finally:
        await session.end()
        await pool.close()

"""`mcpace init`: a manifest for a server, made from what it says of itself.

What it names is there to be read: everything that would change how the server is served stands in comments.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import yaml

from mcpace_cli import sockets
from mcpace_cli.aside import aside
from mcpace_cli.child import Child, servers_environment
from mcpace_cli.listing import hints
from mcpace_cli.manifest import Resource
from mcpace_cli.remote import PAUSE, AskError, Link, Way, asking
from mcpace_cli.show import plain
from mcpace_cli.target import LOCAL, Target
from mcpace_operator.resource.models import API_VERSION, KIND, LONGEST_NAME
from mcpace_sidecar.contract.config import parse_strictly
from mcpace_sidecar.contract.surface import SERVER_PORT
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.stdio.pipes import ended

_STARTING: Final = 60.0
"""Seconds within which a command's server must listen."""
_LISTENING: Final = 10.0
"""Seconds after which one that listens, and does not answer as it should, is not waited for any more."""
_PATHS: Final = ("/mcp", "/sse")
"""Where servers of HTTP, and of the older pair, have their endpoint, unless they are told otherwise."""
_SLOW: Final = 100.0
"""Milliseconds from which a result is worth keeping for that alone."""
_LARGE: Final = 32 << 10
"""Bytes from which a result is large: some 8,000 tokens of a model's context."""
_PAGE: Final = 20
"""Items of a page that is suggested."""
_MOST: Final = 128
"""Tools that a list of a manifest may hold."""
_OLD: Final = 32
"""Tools that one may make old."""
_LONGEST: Final = 128
"""Characters of a tool's name that a manifest may hold."""
_WORDS: Final = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
"""What in YAML is no text."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    target: Target | None
    command: tuple[str, ...]
    port: int | None
    """Where the command's server listens; None: it speaks stdio."""
    name: str | None
    image: str | None
    calls: tuple[str, ...]
    """Tools to call, each as `mcpace call` takes it."""
    out: Path | None


@dataclass(slots=True)
class Tried:
    """One call that was asked for."""

    milliseconds: float
    size: int
    """Bytes of the result."""
    items: int
    """Those of its largest list."""
    failed: bool


@dataclass(slots=True)
class Seen:
    """What the server says of itself, and what was tried."""

    name: str
    version: str
    protocol: str
    way: Way
    tools: list[dict[str, Any]]
    prompts: int
    resources: int
    tried: dict[str, Tried] = field(default_factory=dict)


async def run(asked: Asked) -> None:
    """Write the manifest; ConfigError, AskError."""
    if asked.out is not None and (asked.out.exists() or asked.out.is_symlink()):
        raise ConfigError(f"{asked.out} is there already; write another --out, or remove it")
    if asked.out is not None and not asked.out.parent.is_dir():
        raise ConfigError(f"{asked.out}: there is no folder {asked.out.parent}; make it first")
    calls = dict(map(_call, asked.calls))

    async def look(link: Link) -> Seen:
        return await _look(link, calls)

    if asked.port is None:
        whom = asked.target or Target(command=asked.command)
        seen = await asking(whom, look)
    else:
        whom, seen = await _started(asked.command, asked.port, look)
    text = "\n".join(_manifest(seen, asked, whom)) + "\n"
    parse_strictly(Resource, yaml.safe_load(text))  # a name or a path that no manifest can hold
    if asked.out is None:
        click.echo(text, nl=False)
    else:
        with asked.out.open("x", encoding="utf-8") as file:  # never over what has come meanwhile
            file.write(text)
    place = asked.out or "MANIFEST"
    command = f" -- {plain(shlex.join(asked.command))}" if asked.port is not None else ""
    click.echo(f"Look at it with mcpace check {place}, run it with mcpace run {place}{command}", err=True)


async def _started(
    command: tuple[str, ...], port: int, look: Callable[[Link], Awaitable[Seen]]
) -> tuple[Target, Seen]:
    """What a server of HTTP says that is started for that, and where; ConfigError, AskError."""
    if sockets.listens(port):
        raise ConfigError(
            f"Port {port} is taken: write another --port for the command's server, or ask the one that"
            f" listens there, without a command: --from http://127.0.0.1:{port}/mcp"
        )
    around = servers_environment({"HOST": "127.0.0.1", "PORT": str(port)})
    places = [Target.of(f"http://127.0.0.1:{port}{path}") for path in _PATHS]
    began = time.monotonic()
    async with aside() as output:
        child = await Child.start(command, around, output)
        ending = asyncio.ensure_future(child.wait())
        try:
            while True:
                refusals = []
                for place in places:
                    try:
                        return place, await asking(place, look)
                    except AskError as error:
                        refusals.append(error)
                lasted = time.monotonic() - began
                others = sorted(sockets.ports_of(child.members()) - {port})
                if not all(refusal.passing for refusal in refusals):
                    raise refusals[0]
                if ending.done():
                    raise AskError(f"The server {ended(ending.result())}.", passing=False)
                if lasted > _STARTING or (lasted > _LISTENING and (others or sockets.listens(port))):
                    raise _unanswered(refusals[0], port, others)
                await asyncio.sleep(PAUSE)
        finally:
            ending.cancel()
            await child.end()


def _unanswered(refusal: AskError, port: int, others: list[int]) -> AskError:
    """Why a server that was started is not known, and what to write instead."""
    if sockets.listens(port):
        how = "Where its endpoint is at another path, start the server yourself and write --from URL."
    elif others:
        how = f"The command listens on {', '.join(map(str, others))}: write --port {others[0]}."
    else:
        how = f"Let it listen on $PORT, which is {port} for it; if it speaks stdio, leave --port out."
    return AskError(f"{refusal} {how}", passing=False)


def _call(text: str) -> tuple[str, list[str]]:
    from mcpace_cli.probe import argument  # noqa: PLC0415 - because few ask for a call

    try:
        tool, *arguments = shlex.split(text)
    except ValueError:
        raise ConfigError(
            f"--call {text!r}: write a tool and its arguments, such as 'find city=Oslo'"
        ) from None
    for each in arguments:
        argument(each)
    return tool, arguments


async def _look(link: Link, calls: dict[str, list[str]]) -> Seen:
    from mcpace_cli.probe import argument, texts  # noqa: PLC0415 - because few ask for a call

    info = link.client.server_info
    tools = (await link.listed("tools", every=True)).items
    seen = Seen(
        name=info.name if info else "",
        version=info.version if info else "",
        protocol=link.client.protocol_version,
        way=link.transport,
        tools=[tool for tool in tools if isinstance(tool.get("name"), str)],
        prompts=len((await link.listed("prompts", every=True)).items),
        resources=len((await link.listed("resources", every=True)).items),
    )
    known = {tool["name"] for tool in seen.tools}
    for tool, written in calls.items():
        if tool not in known:
            raise ConfigError(f"--call {tool}: the server lists no such tool")
        as_text = texts(tools, tool)
        arguments = dict(argument(each, as_text) for each in written)
        began = time.perf_counter()
        given = await link.call(tool, arguments, 60)
        milliseconds = (time.perf_counter() - began) * 1000
        result = given.model_dump(mode="json", by_alias=True, exclude_none=True)
        size = len(json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        seen.tried[tool] = Tried(milliseconds, size, _longest(result), bool(given.is_error))
    return seen


def _longest(value: Any) -> int:
    """Items of the largest list of a result, also in a text of it that is JSON."""
    if isinstance(value, dict):
        parts = list(value.values())
        if isinstance(value.get("text"), str):
            with contextlib.suppress(ValueError):
                parts.append(json.loads(value["text"]))
        return max(map(_longest, parts), default=0)
    return max([len(value), *map(_longest, value)]) if isinstance(value, list) else 0


def _manifest(seen: Seen, asked: Asked, whom: Target) -> Iterator[str]:
    """The lines. Words stand behind `##`; a `#` alone is taken away to switch on what stands behind it."""
    name = asked.name or _slug(seen.name)
    title = plain(f"{seen.name} {seen.version}".strip() or "A server without a name").replace("\n", " ")
    counted = ((len(seen.tools), "tool"), (seen.prompts, "prompt"), (seen.resources, "resource"))
    lists = ", ".join(_many(number, what) for number, what in counted)
    yield f"## {title}, MCP {seen.protocol}: {lists}, as `mcpace init` found it."
    yield "##"
    yield "## Lines behind ## are words. A # alone is a suggestion that is switched off: take it away"
    yield "## where you want what it says."
    yield f"apiVersion: {API_VERSION}"
    yield f"kind: {KIND}"
    yield f"metadata: {{name: {_text(name)}}}"
    yield "spec:"
    yield "  ## The server's image, for a cluster; `mcpace run` needs none."
    yield f"  image: {_text(asked.image or f'{name}:latest')}"
    yield from _way(seen, asked, whom)
    if seen.tools:
        yield "  ##"
        yield "  ## Its tools, and what they say of themselves:"
        for tool in seen.tools:
            said = ", ".join(hints(tool)) or "nothing"
            yield f"  ##   {plain(_line(tool['name']))}: {said}{_measured(seen.tried.get(tool['name']))}"
    yield from _cache(seen)
    yield from _limits(seen)
    yield from _pages(seen)


def _way(seen: Seen, asked: Asked, whom: Target) -> Iterator[str]:
    """How the server is reached."""
    if seen.way == "stdio":
        yield "  transport: stdio"
        yield f"  command: [{', '.join(map(_text, asked.command))}]"
        return
    parts = urlsplit(whom.url)
    if seen.way == "sse":
        yield "  transport: sse"
    usual = "/sse" if seen.way == "sse" else "/mcp"
    if (parts.path or "/") != usual:
        yield f"  path: {_text(parts.path or '/')}"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if parts.hostname not in LOCAL:
        yield f"  ## It was found at {plain(parts.hostname or '')}; the port is the one in its own pod."
    if port != SERVER_PORT:
        yield f"  port: {port}"


def _cache(seen: Seen) -> Iterator[str]:
    readers = [tool for tool in _named(seen) if "read-only" in hints(tool)]
    silent = [tool for tool in _named(seen) if not list(hints(tool))]
    if not readers:
        if silent:
            yield "  ##"
            yield "  ## No tool says that it only reads (readOnlyHint), so none is suggested for a cache."
        return
    yield "  ##"
    yield "  ## Tools that say they only read: how long may a result of each be answered again?"
    yield "  ## `scope: shared` where it is the same for whoever asks; without it, each client has its own."
    yield "  ## `key: {arguments: [city], ignoreCase: true}` makes all spellings of a city one; no"
    yield "  ## other argument counts then, so name all that the answer depends on."
    yield "  # cache:"
    yield "  #   tools:"
    for tool in readers:
        slow = seen.tried.get(tool["name"])
        why = (
            f"  ## took {slow.milliseconds:.0f} ms"
            if slow is not None and slow.milliseconds >= _SLOW
            else ""
        )
        if "open-world" in hints(tool):
            why += f"{',' if why else '  ##'} asks the outside world"
        yield f"  #     - {{name: {_text(tool['name'])}, ttl: 1m, scope: shared}}{why}"
    if writers := _writers(seen):
        names = ", ".join(_text(tool["name"]) for tool in readers[:_OLD])
        yield "  #     ## Those that say they change something, and what that makes old:"
        for tool in writers:
            yield f"  #     - {{name: {_text(tool['name'])}, invalidates: [{names}]}}"


def _limits(seen: Seen) -> Iterator[str]:
    yield "  ##"
    yield "  ## How often each client may call; beyond it, calls are refused with when to try again."
    yield "  # rateLimits:"
    yield "  #   tiers:"
    yield "  #     - {name: free, requestsPerMinute: 60}"
    if writers := _writers(seen):
        yield "  #   tools:  ## those that say they change something"
        for tool in writers:
            yield f"  #     - {{name: {_text(tool['name'])}, requestsPerMinute: 10}}"


def _pages(seen: Seen) -> Iterator[str]:
    large = {name: tried for name, tried in seen.tried.items() if tried.size >= _LARGE and not tried.failed}
    if not large:
        return
    yield "  ##"
    yield "  ## Large results, page by page; the tool `next_page` reads the others."
    yield "  # responses:"
    yield "  #   page:"
    yield "  #     tools:"
    for name, tried in large.items():
        rule = f"items: {_PAGE}" if tried.items > _PAGE else f"bytes: {_LARGE >> 10}Ki"
        yield f"  #       - {{name: {_text(name)}, {rule}}}  ## had {tried.size:,} bytes"


def _named(seen: Seen) -> list[dict[str, Any]]:
    """Tools that a manifest can name, as many as it may."""
    once = {tool["name"]: tool for tool in seen.tools if 0 < len(tool["name"]) <= _LONGEST}
    return list(once.values())[:_MOST]


def _writers(seen: Seen) -> list[dict[str, Any]]:
    """Those that say they change something."""
    changing = {"writes", "destructive"}
    return [
        tool for tool in _named(seen) if (said := set(hints(tool))) & changing and "read-only" not in said
    ]


def _measured(tried: Tried | None) -> str:
    if tried is None:
        return ""
    how = "failed after" if tried.failed else "answered in"
    return f"; {how} {tried.milliseconds:.0f} ms, {tried.size:,} bytes"


def _slug(name: str) -> str:
    """A name that Kubernetes takes, as near as may be."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return re.sub(r"^[^a-z]+", "", words)[:LONGEST_NAME].rstrip("-") or "server"


def _text(text: str) -> str:
    """A text as YAML; in quotes where it must, and nothing in it that a terminal would obey."""
    simple = (
        re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*(:[A-Za-z0-9_.-]+)?", text) and text.lower() not in _WORDS
    )
    return text if simple else plain(json.dumps(text, ensure_ascii=False))


def _line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ")[:_LONGEST]


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")

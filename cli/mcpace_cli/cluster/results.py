"""`mcpace cache`: which results the replicas of a server keep, and how these are made old."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from mcpace_cli.cluster.access import SilentError, Where
from mcpace_cli.cluster.sidecars import Heard, asked, hear
from mcpace_cli.cluster.top import Tool, tools
from mcpace_cli.show import Format, plain, show, written
from mcpace_operator.status.performance import percent
from mcpace_sidecar.contract.report import Report
from mcpace_sidecar.contract.surface import Path

_KEPT: Final = ("REPLICA", "RESULTS", "KIB", "OF KIB", "REDIS")
_TOOLS: Final = ("TOOL", "CALLS IN 5 MIN", "HITS", "RATIO")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    where: Where
    server: str
    """A name, or a URL."""
    output: Format = "table"
    tool: str | None = None
    client: str | None = None
    everything: bool = False

    @property
    def parts(self) -> dict[str, str]:
        """Whose results are meant: `tool`, `client`, or both."""
        named = {"tool": self.tool, "client": self.client}
        return {kind: name for kind, name in named.items() if name}


def tell(wanted: Asked) -> None:
    """Print what is kept; MissingRightError, SilentError, ConfigError, ApiError."""
    name, heard = asyncio.run(_stats(wanted))
    called = [tool for tool in tools(heard.told.values()) if tool.calls]
    if wanted.output != "table":
        document = {
            "server": name,
            "replicas": [_document(*each) for each in heard.told.items()],
            "tools": [{"name": each.name, "calls": each.calls, "hits": each.hits} for each in called],
        }
        click.echo(written(document, wanted.output), nl=False)
    else:
        show(None, "table", _KEPT, [_cells(*each) for each in heard.told.items()])
        if called:
            click.echo()
            show(None, "table", _TOOLS, map(_hits, called))
    _say(heard.silent.values())


def purge(wanted: Asked) -> None:
    """Make results old, at every replica; the same errors."""
    name, silent = asyncio.run(_purge(wanted))
    if silent:
        words = "\n".join(silent.values())
        raise SilentError(f"Some replicas of {name} may still answer from their memory:\n{words}")
    click.echo(plain(f"{_what(wanted)} of {name} are fetched anew"))


async def _stats(wanted: Asked) -> tuple[str, Heard[Report]]:
    async with asked(wanted.server, wanted.where) as server:
        return server.name, await hear(server.sidecars, Path.STATS, Report)


async def _purge(wanted: Asked) -> tuple[str, Mapping[str, str]]:
    body: dict[str, Any] = {"all": True} if wanted.everything else {}
    body |= wanted.parts
    async with asked(wanted.server, wanted.where) as server:
        # One would do where all share a Redis; where that is away, each has only its own memory.
        done = await hear(server.sidecars, Path.PURGE, dict[str, Any], body=body)
        return server.name, done.silent


def _what(wanted: Asked) -> str:
    parts = [f"of {kind} {name}" for kind, name in wanted.parts.items()]
    return "All results" if wanted.everything else f"Results {' and '.join(parts)}"


def _document(replica: str, report: Report) -> dict[str, Any]:
    kept = report.cache
    told = {"replica": replica, "results": kept.results, "bytes": kept.bytes, "ofBytes": kept.of_bytes}
    return told | {"redis": report.stores.get("cache")}


def _cells(replica: str, report: Report) -> tuple[object, ...]:
    kept = report.cache
    redis = {True: "answers", False: "is down", None: "none"}[report.stores.get("cache")]
    return replica, kept.results, kept.bytes >> 10, kept.of_bytes >> 10, redis


def _hits(tool: Tool) -> tuple[object, ...]:
    return tool.name, tool.calls, tool.hits, percent(tool.hits / tool.calls)


def _say(notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(plain(note), err=True)

"""`mcpace top`: how servers do, from their status; how one's tools and clients do, from its sidecars.

A status takes the rights of `view` alone. What sidecars tell takes the server's Secret and the way to its
pods; whoever has not got these is told by which rules they would.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from mcpace_cli.cluster.access import Access, MissingRightError, SilentError, Where, reached
from mcpace_cli.cluster.sidecars import Heard, Sidecar, hear, replicas
from mcpace_cli.show import Format, plain, show, written
from mcpace_operator.cluster.client import ApiError
from mcpace_operator.resource.server import Server
from mcpace_operator.status.checklist import Result
from mcpace_operator.status.performance import PERCENTILES, duration, number, percent, value
from mcpace_operator.status.reasons import Type
from mcpace_operator.status.stored import stored
from mcpace_sidecar.contract.histogram import percentile
from mcpace_sidecar.contract.report import ClientLeft, ClientsLeft, Counted, Report
from mcpace_sidecar.contract.surface import Path
from mcpace_sidecar.errors import ConfigError

MOST_PODS: Final = 20
"""Replicas of one server that are asked, look after look."""
SORTS: Final[Mapping[str, str]] = {
    "calls": "callsPerSecond",
    "p95": "p95",
    "errors": "errorRate",
    "hits": "hitRatio",
    "limited": "limitedRatio",
    "name": "",
}
"""What may be sorted by -> how a status calls it; the most first, and names as they are spelled."""
_NUMBERS: Final = ("callsPerSecond", *PERCENTILES, "errorRate", "hitRatio", "limitedRatio")
SERVERS: Final = (
    "NAMESPACE", "NAME", "READY", "CALLS/S", "P50", "P95", "P99", "ERRORS", "HITS", "LIMITED", "CHECKLIST",
    "STATUS",
)  # fmt: skip
TOOLS: Final = (
    "TOOL", "CALLS/S", "P50", "P95", "P99", "ERRORS", "HITS", "LIMITED", "IN FLIGHT", "CALLS IN 5 MIN",
)  # fmt: skip
CLIENTS: Final = ("CLIENT", "TIER", "LIMIT", "LEFT", "OF", "WHOLE IN")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    where: Where
    server: str | None
    sort: str
    interval: float
    """Seconds between two looks."""
    once: bool
    output: Format


@dataclass(frozen=True, slots=True)
class Row:
    """One server, as its status tells of it."""

    namespace: str
    name: str
    ready: str
    numbers: Mapping[str, str]
    """Those that there are, as `status.performance` has them."""
    passed: int
    items: int
    """Of the checklist; 0 until it is judged."""
    failed: tuple[str, ...]
    condition: str
    """The reason of `Ready`."""
    message: str

    @classmethod
    def of(cls, server: Server) -> Row:
        """Read a status, be it whoever's."""
        status = server.status
        performance = status.get("performance")
        numbers = performance if isinstance(performance, Mapping) else {}
        results = judged(status)
        ready = stored(status).get(Type.Ready.name)
        return cls(
            server.key.namespace,
            server.key.name,
            str(status.get("replicasReady") or ""),
            {name: str(numbers[name]) for name in _NUMBERS if name in numbers},
            sum(result == Result.PASSED.value for result in results.values()),
            len(results),
            tuple(name for name, result in results.items() if result == Result.FAILED.value),
            ready.reason if ready is not None else "Unknown",
            ready.message if ready is not None else "No operator has told of it yet.",
        )

    @property
    def cells(self) -> tuple[object, ...]:
        """As people see it."""
        checked = f"{self.passed}/{self.items}" if self.items else ""
        told = (self.numbers.get(name, "") for name in _NUMBERS)
        return self.namespace, self.name, self.ready, *told, checked, self.condition

    @property
    def document(self) -> dict[str, Any]:
        """As programs read it."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "ready": self.ready,
            "performance": dict(self.numbers),
            "checklist": {"passed": self.passed, "of": self.items, "failed": list(self.failed)},
            "condition": self.condition,
            "message": self.message,
        }


def judged(status: Mapping[str, Any]) -> dict[str, str]:
    """Item of the checklist -> its result, in a status."""
    items = status.get("checklist")
    found = [each for each in items if isinstance(each, Mapping)] if isinstance(items, Sequence) else []
    return {str(each.get("name")): str(each.get("result")) for each in found}


def ordered(rows: Iterable[Row], sort: str) -> list[Row]:
    """The most first; those that tell nothing last."""
    by_name = sorted(rows, key=lambda row: (row.namespace, row.name))
    field = SORTS[sort]
    if not field:
        return by_name

    def amount(row: Row) -> float:
        told = value(row.numbers.get(field))
        return -1.0 if told is None else told

    return sorted(by_name, key=amount, reverse=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool over all replicas that answered, in five minutes."""

    name: str
    calls: int
    calls_per_second: float
    p50: float | None
    p95: float | None
    p99: float | None
    """Seconds; None where nothing was answered."""
    errors: int
    hits: int
    limited: int
    in_flight: int
    sent_bytes: int

    @property
    def cells(self) -> tuple[object, ...]:
        """As people see it."""
        times = (duration(each) if each is not None else "" for each in (self.p50, self.p95, self.p99))
        counts = (self.errors, self.hits, self.limited)
        parts = (percent(each / self.calls) if self.calls else "" for each in counts)
        return self.name, number(self.calls_per_second), *times, *parts, self.in_flight, self.calls

    @property
    def document(self) -> dict[str, Any]:
        """As programs read it."""
        return {
            "name": self.name,
            "calls": self.calls,
            "callsPerSecond": self.calls_per_second,
            "p50": self.p50,
            "p95": self.p95,
            "p99": self.p99,
            "errors": self.errors,
            "hits": self.hits,
            "limited": self.limited,
            "inFlight": self.in_flight,
            "sentBytes": self.sent_bytes,
        }


def tools(reports: Iterable[Report]) -> list[Tool]:
    """What the reports make together, the busiest first; tools that nobody called are left out."""
    counted: dict[str, list[Counted]] = {}
    in_flight: Counter[str] = Counter()
    for report in reports:
        in_flight.update(report.in_flight)
        for name, each in report.calls.items():
            counted.setdefault(name, []).append(each)
    found = []
    for name in {**counted, **in_flight}:
        parts = counted.get(name, [])
        histogram: Counter[int] = Counter()
        for each in parts:
            histogram.update(each.histogram)
        p50, p95, p99 = (percentile(histogram, part) for part in PERCENTILES.values())
        found.append(
            Tool(
                name,
                sum(each.count for each in parts),
                sum(each.calls_per_second for each in parts),
                p50,
                p95,
                p99,
                errors=sum(each.errors for each in parts),
                hits=sum(each.hits for each in parts),
                limited=sum(each.limited for each in parts),
                in_flight=in_flight[name],
                sent_bytes=sum(each.sent_bytes for each in parts),
            )
        )
    return sorted(found, key=lambda tool: (-tool.calls, -tool.in_flight, tool.name))


@dataclass(frozen=True, slots=True)
class Inside:
    """One server, as its sidecars tell of it."""

    tools: Sequence[Tool] = ()
    clients: Sequence[ClientLeft] = ()
    limited: bool = True
    """Whether anybody is limited at all."""
    notes: Sequence[str] = ()
    """What is not told, and why."""

    @property
    def client_cells(self) -> list[tuple[object, ...]]:
        """Its clients as people see them: a line a limit."""
        return [cells for client in self.clients for cells in limit_cells(client)]


def limit_cells(client: ClientLeft) -> list[tuple[object, ...]]:
    """What a client has left, a line a limit."""
    return [
        (client.client, client.tier, each.limit, int(each.left), each.of, f"{each.whole_seconds:.0f}s")
        for each in client.limits
    ]


async def inside(sidecars: Sequence[Sidecar]) -> Inside:
    """Ask a server's sidecars; what one of them does not tell is noted."""
    reports = await hear(sidecars, Path.STATS, Report)
    notes = list(reports.silent.values())
    try:
        left = await hear(sidecars, Path.LIMITS, ClientsLeft)
    except SilentError as error:  # of a version before this could be asked
        return Inside(tools(reports.told.values()), notes=[*notes, str(error)])
    replicas_told = [each for _, each in counting(left)]
    clients = [client for each in replicas_told for client in each.clients]
    return Inside(tools(reports.told.values()), clients, all(each.limited for each in replicas_told), notes)


def counting(left: Heard[ClientsLeft]) -> list[tuple[str, ClientsLeft]]:
    """Who counts: all as one where they share a Redis, of which each replica knows its own clients."""
    told = list(left.told.values())
    if not all(each.shared for each in told):
        return list(left.told.items())
    clients = {(client.client, client.tier): client for each in told for client in each.clients}
    by_use = sorted(clients.values(), key=_least)
    more = max(each.more for each in told)
    return [("all", ClientsLeft(tuple(by_use), more, all(each.limited for each in told), shared=True))]


def _least(client: ClientLeft) -> float:
    """The part that is left of what is nearest to its end."""
    return min((each.left / max(1, each.of) for each in client.limits), default=1.0)


async def opened(access: Access, server: Server) -> Inside:
    """The same of a server in a cluster; what a right is missing for is noted, and nothing is raised."""
    try:
        found = await replicas(access, server)
        told = await inside(found[:MOST_PODS])
    except MissingRightError as error:
        words = f"Tools and clients are told by its sidecars, whom you cannot ask. {error}"
        return Inside(notes=[words, *also(error)])
    except (SilentError, ConfigError, ApiError) as error:
        return Inside(notes=[str(error)])
    if len(found) > MOST_PODS:
        told = replace(told, notes=[*told.notes, f"{MOST_PODS} of its {len(found)} replicas were asked."])
    return told


def also(error: MissingRightError) -> list[str]:
    """The right that is asked for after the one that is missing."""
    if error.right.resource != "secrets":
        return []
    rule = error.right._replace(resource="pods/proxy", name="").rule
    return [f"It also takes the way to its pods: {rule}"]


def run(asked: Asked) -> None:
    """Show it, once or for as long as a person looks; MissingRightError, ConfigError, ApiError."""
    live = asked.output == "table" and not asked.once and sys.stdout.isatty() and sys.stdin.isatty()
    if live:
        # Imported here because the images are built without rich, which draws it.
        from mcpace_cli.cluster.screen import watch  # noqa: PLC0415 - because of that

        asyncio.run(watch(asked))
    else:
        asyncio.run(_once(asked))


async def _once(asked: Asked) -> None:
    async with reached(asked.where) as access:
        if asked.server is None:
            _show_servers(ordered(map(Row.of, await access.servers()), asked.sort), asked.output)
            return
        server = Server.from_body(await access.server(asked.server))
        _show_server(Row.of(server), await opened(access, server), asked.output)


def _show_servers(rows: Sequence[Row], output: Format) -> None:
    document = {"servers": [row.document for row in rows]}
    show(document, output, SERVERS, [row.cells for row in rows])
    if not rows:
        words = "There is no McpServer here; -A looks in all namespaces, -n NAMESPACE in another."
        click.echo(words, err=True)


def _show_server(row: Row, told: Inside, output: Format) -> None:
    if output != "table":
        document = row.document | {
            "tools": [tool.document for tool in told.tools],
            "clients": [client_document(each) for each in told.clients],
        }
        click.echo(written(document, output), nl=False)
    else:
        show(None, output, SERVERS, [row.cells])
        if told.tools:
            click.echo()
            show(None, output, TOOLS, [tool.cells for tool in told.tools])
        if told.clients:
            click.echo()
            show(None, output, CLIENTS, told.client_cells)
    for note in told.notes:
        click.echo(plain(note), err=True)


def client_document(client: ClientLeft) -> dict[str, Any]:
    """What a client has left, as programs read it."""
    limits = [
        {"limit": each.limit, "of": each.of, "left": each.left, "wholeSeconds": each.whole_seconds}
        for each in client.limits
    ]
    return {"client": client.client, "tier": client.tier, "limits": limits}

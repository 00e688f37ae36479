"""`mcpace limits`: what clients of a server have left, and how one has all of it again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from mcpace_cli.cluster.access import SilentError, Where
from mcpace_cli.cluster.sidecars import Heard, asked, hear
from mcpace_cli.cluster.top import CLIENTS, client_document, counting, limit_cells
from mcpace_cli.show import Format, plain, show
from mcpace_sidecar.contract.report import ClientLeft, ClientsLeft
from mcpace_sidecar.contract.surface import Path


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    where: Where
    server: str
    """A name, or a URL."""
    client: str | None
    output: Format = "table"


def tell(wanted: Asked) -> None:
    """Print what is left; MissingRightError, SilentError, ConfigError, ApiError."""
    name, heard = asyncio.run(_left(wanted))
    replicas = counting(heard)
    clients = [(replica, client) for replica, each in replicas for client in each.clients]
    shared = len(replicas) == 1
    told = [
        ({} if shared else {"replica": replica}) | client_document(client) for replica, client in clients
    ]
    limited = all(each.limited for _, each in replicas)
    document = {"server": name, "limited": limited, "clients": told}
    columns = CLIENTS if shared else ("REPLICA", *CLIENTS)
    show(document, wanted.output, columns, [cells for one in clients for cells in _cells(one, shared)])
    for note in _notes(wanted, replicas, clients, heard):
        click.echo(plain(note), err=True)


def reset(wanted: Asked) -> None:
    """Give the client all of its limits again, at every replica; the same errors."""
    name, silent = asyncio.run(_reset(wanted))
    if silent:
        words = "\n".join(silent)
        raise SilentError(f"{wanted.client} has its limits again, but not everywhere in {name}:\n{words}")
    click.echo(plain(f"{wanted.client} has all of its limits of {name} again"))


async def _left(wanted: Asked) -> tuple[str, Heard[ClientsLeft]]:
    query = {"client": wanted.client} if wanted.client is not None else {}
    async with asked(wanted.server, wanted.where) as server:
        return server.name, await hear(server.sidecars, Path.LIMITS, ClientsLeft, query)


async def _reset(wanted: Asked) -> tuple[str, Sequence[str]]:
    async with asked(wanted.server, wanted.where) as server:
        body = {"client": wanted.client}
        # Replicas remember refusals, so each is told, though they may count in one Redis.
        done = await hear(server.sidecars, Path.RESET, dict[str, Any], body=body)
        return server.name, list(done.silent.values())


def _cells(counted: tuple[str, ClientLeft], shared: bool) -> list[tuple[object, ...]]:
    replica, client = counted
    return [cells if shared else (replica, *cells) for cells in limit_cells(client)]


def _notes(
    wanted: Asked,
    replicas: Sequence[tuple[str, ClientsLeft]],
    clients: Sequence[tuple[str, ClientLeft]],
    heard: Heard[ClientsLeft],
) -> list[str]:
    notes = list(heard.silent.values())
    more = sum(each.more for _, each in replicas)
    if not all(each.limited for _, each in replicas):
        notes.append("The manifest has no rateLimits: nobody is counted.")
    elif not clients and wanted.client is not None:
        words = f"No call of {wanted.client} is counted. Those who have called: mcpace limits show SERVER"
        notes.append(words)
    elif not clients:
        notes.append("No client has called since the sidecars know their limits.")
    if more:
        notes.append(f"{more} more clients have used less.")
    if len(replicas) > 1:
        notes.append("Each replica counts on its own: no Redis is shared, or it does not answer.")
    return notes

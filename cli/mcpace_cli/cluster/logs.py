"""`mcpace logs`: what the containers of all of a server's pods print, each line with whose it is."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import click

from mcpace_cli.cluster.access import Access, SilentError, Where, reached
from mcpace_cli.show import line_of, plain
from mcpace_operator.cluster.client import CONNECTIONS, ApiError
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Pod
from mcpace_sidecar.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    where: Where
    server: str
    containers: tuple[str, ...]
    """All of them where there is none."""
    tail: int
    follow: bool


def run(wanted: Asked) -> int:
    """Print them; the exit code is 1 where a container has none to show. MissingRightError, ApiError."""
    return asyncio.run(_print(wanted))


async def _print(wanted: Asked) -> int:
    async with reached(wanted.where) as access:
        key = Server.from_body(await access.server(wanted.server)).key
        found = [Pod.of(each) for each in await access.pods(key)]
        chosen = _chosen(found, wanted.containers)
        if not chosen:
            raise ConfigError(_none(key, found, wanted.containers))
        return await print_all(access, key, chosen, wanted)


def _chosen(pods: list[Pod], containers: tuple[str, ...]) -> list[tuple[str, str]]:
    """Pod and container of each log."""
    return [
        (pod.name, each.name)
        for pod in sorted(pods, key=lambda pod: pod.name)
        for each in pod.containers
        if not containers or each.name in containers
    ]


def _none(key: Key, pods: list[Pod], containers: tuple[str, ...]) -> str:
    names = sorted({each.name for pod in pods for each in pod.containers})
    if not names:
        return f"No container of {key} has been started yet: `mcpace top` says why"
    return f"{key} has no container {' or '.join(containers)}; it has {', '.join(names)}"


async def print_all(access: Access, key: Key, chosen: list[tuple[str, str]], wanted: Asked) -> int:
    """The logs of pods and containers, as many at a time as there are connections; the exit code."""
    if wanted.follow and len(chosen) > CONNECTIONS:  # one that is followed keeps its connection
        words = f"Of {len(chosen)} logs the first {CONNECTIONS} are followed; -c NAME chooses among them."
        click.echo(words, err=True)
        chosen = chosen[:CONNECTIONS]
    slots = asyncio.Semaphore(CONNECTIONS)

    async def one(pod: str, container: str) -> int:
        async with slots:
            return await _one(access, key, pod, container, wanted)

    return max(await asyncio.gather(*(one(*each) for each in chosen)))


async def _one(access: Access, key: Key, pod: str, container: str, wanted: Asked) -> int:
    log = access.log(key, pod, container, tail=wanted.tail, follow=wanted.follow)
    try:
        async with contextlib.aclosing(log) as lines:
            async for line in lines:
                click.echo(f"{pod}/{container} | {line_of(line)}")
    except (SilentError, ApiError) as error:  # one that waits to start has no log, and others have
        click.echo(plain(str(error)), err=True)
        return 1
    return 0

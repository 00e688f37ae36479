"""`mcpace support-bundle`: what somebody who helps would ask for, in one file, without what is secret.

It holds no Secret, no argument or result of a call, and no line of the server's own containers, which may
print anything. What could not be read stands in it with the right that was missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import yaml

from mcpace_cli.cluster import redaction
from mcpace_cli.cluster.access import Access, MissingRightError, Right, SilentError, Where, reached
from mcpace_cli.cluster.sidecars import Replica, hear, replicas
from mcpace_cli.cluster.top import MOST_PODS
from mcpace_cli.show import plain
from mcpace_operator.children.sidecar import NAME
from mcpace_operator.cluster.client import ApiError
from mcpace_operator.cluster.kinds import KINDS
from mcpace_operator.resource.models import API_VERSION
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.resource.workload import Pod
from mcpace_sidecar import __version__
from mcpace_sidecar.contract import environment, surface
from mcpace_sidecar.contract.report import Report
from mcpace_sidecar.errors import ConfigError, McpaceError

LINES: Final = 500
"""Of each log."""
_CHILDREN: Final = tuple(name for name, kind in KINDS.items() if kind.child and name != "Secret")
_ABOUT: Final = """What is in this file, made by `mcpace support-bundle` for {name} on {when}.

mcpserver.yaml      the manifest and its status
children/           what the operator made of it, but for the Secret
pods.yaml           its pods
events.yaml         what was told of all of these
stats/              what the sidecars counted in five minutes: names of tools, numbers, no arguments
logs/               the last {lines} lines of the sidecars, and of the operator
versions.json       of mcpace here and there, Kubernetes, Python

Values of environment variables, commands but for the program's name, and what has the form of a credential
are masked. The server's own logs are not in it: `mcpace logs {short} -c server` shows them. Read it before
you send it.
"""
_OPERATORS: Final = "app.kubernetes.io/name=mcpace,app.kubernetes.io/component=operator"
"""The label of the chart's pods."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    where: Where
    server: str
    out: Path | None


def run(wanted: Asked) -> None:
    """Write it; MissingRightError, ConfigError, ApiError, OSError."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = f"mcpace-{wanted.server}-{stamp}"
    path = wanted.out if wanted.out is not None else Path(f"{folder}.tar.gz")
    if path.exists():
        raise ConfigError(f"{path} is already there; choose another name by --out")
    files, notes = asyncio.run(collect(wanted))
    write(path, folder, files)
    click.echo(str(path))
    for note in notes:
        click.echo(plain(f"Not in it: {note}"), err=True)
    click.echo("Read it before you send it: what is secret is masked as far as it can be told.", err=True)


async def collect(wanted: Asked) -> tuple[dict[str, bytes], list[str]]:
    """The files by name, and what could not be read; MissingRightError, ConfigError, ApiError."""
    gathering = _Gathering()
    async with reached(wanted.where) as access:
        body = await access.server(wanted.server)
        server = Server.from_body(body)
        # First, because their token is known from then on.
        versions: dict[str, Any] = {}
        with gathering.noted("what its sidecars counted"):
            versions["sidecars"] = await _stats(gathering, await replicas(access, server))
        gathering.yaml("mcpserver.yaml", {"apiVersion": API_VERSION} | body)
        for kind in _CHILDREN:
            await _child(gathering, access, kind, server.key)
        pods: list[Pod] = []
        with gathering.noted("its pods"):
            bodies = await access.pods(server.key)
            gathering.yaml("pods.yaml", bodies)
            pods = [Pod.of(each) for each in bodies]
        with gathering.noted("events"):
            gathering.yaml("events.yaml", await _events(access, server.key))
        looked_at, others = first(pods)
        if others:
            gathering.notes.append(f"the logs of {others} more pods")
        for pod in looked_at:
            with gathering.noted(f"the log of {pod.name}"):
                lines = access.log(server.key, pod.name, NAME, tail=LINES)
                gathering.add(f"logs/{pod.name}.log", await _text(lines))
        with gathering.noted("the operator's log"):
            await _operator(gathering, access, server)
        with gathering.noted("the version of Kubernetes"):
            versions["kubernetes"] = (await access.read("/version", None)).get("gitVersion")
    gathering.json("versions.json", _here() | versions)
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    about = _ABOUT.format(name=server.key, short=server.key.name, when=when, lines=LINES)
    if gathering.notes:
        about += "\nNot in it:\n" + "".join(f"- {note}\n" for note in gathering.notes)
    gathering.add("README.txt", about)
    return gathering.files, gathering.notes


def first(pods: Sequence[Pod]) -> tuple[list[Pod], int]:
    """Those whose logs are read, what is not ready before what is; how many others there are."""
    in_order = sorted(pods, key=lambda pod: pod.is_ready)
    return in_order[:MOST_PODS], max(0, len(pods) - MOST_PODS)


def write(path: Path, folder: str, files: Mapping[str, bytes]) -> None:
    """Pack them into a file that is its owner's alone; OSError."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(number, "wb") as out, tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, content in sorted(files.items()):
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                tar.addfile(entry, io.BytesIO(content))
    except BaseException:
        path.unlink()  # half of one is none
        raise


class _Gathering:
    """The files so far. Whatever is added goes through the redaction."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.notes: list[str] = []
        self.known = {held for each in environment.VARIABLES if each.is_secret and (held := _held(each))}
        """Secrets of this process, and of those whom it asks."""

    def add(self, name: str, words: str) -> None:
        """A text."""
        self.files[name] = redaction.text(words, self.known).encode()

    def yaml(self, name: str, body: Any) -> None:
        """Objects of Kubernetes."""
        told = redaction.document(body, self.known)
        self.files[name] = yaml.safe_dump(told, sort_keys=False, allow_unicode=True).encode()

    def json(self, name: str, body: Any) -> None:
        """Anything else."""
        self.files[name] = json.dumps(redaction.document(body, self.known), indent=2).encode()

    @contextlib.contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """Go on without it where it cannot be had, and say why."""
        try:
            yield
        except (MissingRightError, SilentError, ConfigError, ApiError) as error:
            self.notes.append(redaction.text(f"{what}: {error}", self.known))


def _held(variable: environment.Variable) -> str | None:
    try:
        return variable.read()
    except McpaceError:
        return None


async def _child(gathering: _Gathering, access: Access, kind: str, key: Key) -> None:
    plural, group = KINDS[kind].plural, KINDS[kind].group
    try:
        found = await access.children(kind, key)
    except ApiError as error:
        if error.status == 403:
            missing = MissingRightError(Right("list", plural, key.namespace, group=group))
            gathering.notes.append(f"{plural}: {missing}")
        elif error.status != 404:  # a cluster may not know the kind
            gathering.notes.append(redaction.text(f"{plural}: {error}", gathering.known))
        return
    for body in found:
        gathering.yaml(f"children/{kind.lower()}-{body['metadata']['name']}.yaml", body)


async def _events(access: Access, key: Key) -> list[Any]:
    """Those of the server, and of what bears its name."""
    path = f"/api/v1/namespaces/{key.namespace}/events"
    told = await access.read(path, Right("list", "events", key.namespace), limit="2000")
    named = []
    for each in told.get("items") or []:
        name = str((each.get("involvedObject") or {}).get("name"))
        if name == key.name or name.startswith(f"{key.name}-"):
            named.append(each)
    return named


async def _stats(gathering: _Gathering, sidecars: Sequence[Replica]) -> dict[str, str]:
    """Their versions; what they counted is added, and their token is known from now on."""
    gathering.known |= {each.token for each in sidecars}
    heard = await hear(sidecars, surface.Path.STATS, Report)
    for name, report in heard.told.items():
        gathering.json(f"stats/{name}.json", msgspec.to_builtins(report, str_keys=True))
    gathering.notes += [redaction.text(each, gathering.known) for each in heard.silent.values()]
    return {name: report.sidecar for name, report in heard.told.items()}


async def _operator(gathering: _Gathering, access: Access, server: Server) -> None:
    namespace, _, name = server.manager.partition("/")
    if not name:
        raise SilentError("the status does not say which mcpace looks after the server")
    path = f"/api/v1/namespaces/{namespace}/pods"
    told = await access.read(path, Right("list", "pods", namespace), labelSelector=_OPERATORS)
    for body in told.get("items") or []:
        pod = body["metadata"]["name"]
        for container in (each["name"] for each in (body.get("spec") or {}).get("containers") or []):
            lines = access.log(Key(namespace, name), pod, container, tail=LINES)
            gathering.add(f"logs/operator/{pod}-{container}.log", await _text(lines))


async def _text(lines: AsyncIterator[bytes]) -> str:
    return "".join([line.decode("utf-8", "replace") + "\n" async for line in lines])


def _here() -> dict[str, Any]:
    return {
        "mcpace": __version__,
        "apiVersion": API_VERSION,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }

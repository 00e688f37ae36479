"""Manifests run for the occasion, each by `mcpace run` on ports of its own, and what their sidecars count.

Variants share one server where it would be started alike. What a manifest changes about the server's own
calls (a door's address in its environment) takes a server of its own.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import yaml

from mcpace_cli import sessionkey, sockets
from mcpace_cli.bench import levers
from mcpace_cli.bench.asked import say
from mcpace_cli.manifest import Manifest
from mcpace_operator.resource.models import API_VERSION, KIND
from mcpace_sidecar.contract import surface
from mcpace_sidecar.contract.environment import ADMIN_TOKEN, CACHE_URL, LIMITS_URL
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.stdio.guard import Guard

_PATIENCE: Final = 180.0
"""Seconds until a server is there: `npx` and `uvx` download it first."""
_ENDING: Final = 15.0
_LOOK: Final = 0.05
_SHOWN: Final = 12
"""Lines that are shown of what a server said that did not start."""
_COUNTED: Final = re.compile(
    r"^(mcpace_cache_requests_total|mcp_tool_calls_total)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE
)
_LABEL: Final = re.compile(r'(?:^|,)(result|status)="([a-z_]+)"')


@dataclass(frozen=True, slots=True)
class Variant:
    """A manifest to run. `command` starts its server, in place of what it says itself."""

    name: str
    manifest: Manifest
    spec: levers.Spec
    command: tuple[str, ...] = ()

    @property
    def own_server(self) -> str:
        """What makes its server another one; whose doors are its own, that has a server of its own."""
        return (
            f"{levers.started_with(self.spec)}{self.command}{self.name if self.spec.get('egress') else ''}"
        )


class Counted(NamedTuple):
    """What a sidecar has counted so far."""

    looked: int
    hits: int
    calls: int
    refused: int
    """By a limit, or for want of room: these came to no server."""

    def since(self, before: Counted) -> Counted:
        """What it has counted since then."""
        return Counted(*(now - then for now, then in zip(self, before, strict=True)))


def counted(metrics: str) -> Counted:
    """The counts in what `/metrics` says."""
    looked = hits = calls = refused = 0
    for name, labels, number in _COUNTED.findall(metrics):
        label = _LABEL.search(labels)
        which, value = label[2] if label else "", int(float(number))
        if name == "mcp_tool_calls_total":
            calls += value
            refused += value if which in ("limited", "shed") else 0
        else:
            looked += value
            hits += value if which != "miss" else 0
    return Counted(looked, hits, calls, refused)


@dataclass
class Running:
    """A variant that runs."""

    variant: Variant
    port: int
    """Its server's own; 0 of a server of stdio."""
    url: str
    admin: str
    process: subprocess.Popen[bytes]
    file: Path

    async def counted(self) -> Counted:
        """What its sidecar has counted so far; ConfigError where it is gone."""
        return counted(await asyncio.to_thread(_read, self.admin))

    @property
    def direct(self) -> str:
        """Where its server listens itself."""
        spec = self.variant.manifest.spec
        return f"http://127.0.0.1:{self.port}{spec.endpoint}"


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - because the address is our own
            return str(answer.read().decode())
    except OSError as error:
        raise ConfigError(f"the sidecar does not say what it has counted ({url}): {error}") from None


@dataclass
class Stage:
    """Runs variants, and ends them with the `with` statement, the last first."""

    folder: Path
    running: list[Running] = field(default_factory=list)
    _servers: dict[str, int] = field(default_factory=dict)
    _guard: Guard | None = None

    async def __aenter__(self) -> Self:
        self._guard = Guard()
        return self

    async def __aexit__(self, *error: object) -> None:
        for each in reversed(self.running):
            each.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(each.process.wait, _ENDING)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            sessionkey.forget(each.file, each.variant.manifest.name)
        if self._guard is not None:
            self._guard.dismiss()

    async def run(self, variant: Variant) -> Running:
        """Run one; ConfigError with its own words where it does not start."""
        if variant.spec.get("transport") == "stdio":
            port, starts = 0, True
        else:
            port, starts = self._place(variant)
        spec = variant.spec
        if spec.get("egress") and starts:
            doors = {door["port"]: _free_port() for door in spec["egress"]}
            spec = levers.moved(spec, port, doors)
            places = {old: f"http://127.0.0.1:{new}" for old, new in doors.items()}
            command: Sequence[str] = [levers.readdressed(word, places) for word in variant.command]
        else:
            spec = levers.moved(spec, port, {door["port"]: door["port"] for door in spec.get("egress", ())})
            command = variant.command
        file = self.folder / f"{len(self.running)}-{variant.name}.yaml"
        _write(file, variant.manifest, spec)
        words = [sys.executable, "-m", "mcpace_cli", "run", str(file), "--listen", "127.0.0.1:0"]
        words += ["--admin-listen", "127.0.0.1:0", *(["--", *command] if command and starts else [])]
        out, err = file.with_suffix(".out"), file.with_suffix(".err")
        process = _started(words, out, err)
        running = Running(variant, port, "", "", process, file)
        self.running.append(running)
        assert self._guard is not None
        self._guard.watch(process.pid)
        running.url, running.admin = await self._ready(running, out, err)
        return running

    def _place(self, variant: Variant) -> tuple[int, bool]:
        """The port of a variant's server, and whether it is to start it."""
        port = self._servers.get(variant.own_server)
        if port is not None:
            return port, False
        port = int(variant.spec.get("port", surface.SERVER_PORT))
        listens = sockets.listens(port)
        may_start = bool(variant.command or variant.spec.get("command"))
        if port in self._servers.values() or (
            listens and not variant.command and may_start and self._servers
        ):
            port = _free_port()
        elif listens and not variant.command:
            may_start = False
        if not may_start and not sockets.listens(port):
            raise ConfigError(
                f"nothing listens on port {port}: start the server there, or give its command after --"
            )
        self._servers[variant.own_server] = port
        return port, may_start

    async def _ready(self, running: Running, out: Path, err: Path) -> tuple[str, str]:
        deadline, told = time.monotonic() + _PATIENCE, False
        while True:
            line, said = _said(out).partition("\n"), _said(err)
            admin = re.search(rf"http://(\S+){surface.Path.METRICS},", said)
            if line[1] and admin is not None:
                return line[0], f"http://{admin[1]}{surface.Path.METRICS}"
            if running.process.poll() is not None:
                raise ConfigError(f"the server did not start:\n{_tail(said)}")
            left = deadline - time.monotonic()
            if left < 0:
                raise ConfigError(f"the server was not ready within {_PATIENCE:.0f} s:\n{_tail(said)}")
            if not told and said and left < _PATIENCE - 5:
                told = True
                say(f"Waiting for the server:\n{_tail(said)}")
            await asyncio.sleep(_LOOK)


def _started(words: Sequence[str], out: Path, err: Path) -> subprocess.Popen[bytes]:
    """A process that no terminal's Ctrl-C reaches: it is ended in its turn."""
    with out.open("wb") as to_out, err.open("wb") as to_err:
        return subprocess.Popen(  # noqa: S603 - because the command is the user's own
            words, env=_environment(), stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err,
            start_new_session=True,
        )  # fmt: skip


def _said(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _tail(said: str) -> str:
    return "\n".join(f"  {line}" for line in said.strip().splitlines()[-_SHOWN:])


def _environment() -> dict[str, str]:
    """Ours without stores that others use, and what guards what we read."""
    kept_from_it = {str(each) for each in (LIMITS_URL, CACHE_URL, ADMIN_TOKEN)}
    kept_from_it |= {f"{name}_FILE" for name in kept_from_it}
    return {name: value for name, value in os.environ.items() if name not in kept_from_it}


def _write(file: Path, manifest: Manifest, spec: levers.Spec) -> None:
    """A manifest of its own, with the Secrets and ConfigMaps of the one it is made from; for us alone."""
    namespace, _, name = manifest.name.partition("/")
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
    ]
    for each, entries in manifest.secrets.items():
        data = {key: base64.b64encode(value).decode() for key, value in entries.items()}
        documents.append(_beside("Secret", each, namespace, data))
    for each, texts in manifest.config_maps.items():
        documents.append(_beside("ConfigMap", each, namespace, dict(texts)))
    file.touch(0o600)
    file.write_text(yaml.safe_dump_all(documents, sort_keys=False))


def _beside(kind: str, name: str, namespace: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def _free_port() -> int:
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        return int(trying.getsockname()[1])

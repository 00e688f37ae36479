"""Who is measured: manifests run for the occasion, whole, bare, and with one lever alone, each by `mcpace run`.

What a manifest changes about the server's own calls (a door's address in its environment) takes a server of its own,
so contenders share one server where it would be started alike, and have one each where not.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import yaml

from mcpace_cli import sessionkey, sockets
from mcpace_cli.manifest import Manifest, environment
from mcpace_operator.resource.models import API_VERSION, KIND
from mcpace_sidecar.contract.config.rate_limits import DEFAULT_TIERS
from mcpace_sidecar.contract.environment import ADMIN_TOKEN, CACHE_URL, LIMITS_URL
from mcpace_sidecar.contract.surface import SERVER_PORT, Path as AdminPath
from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.stdio.guard import Guard

Spec = dict[str, Any]

BARE: Final = "bare"
WITHOUT: Final = "direct"
THROUGH: Final = "mcpace"
_NO_LIMIT: Final = 1_000_000
"""Calls a minute: the most that a tier may say."""
_NO_SIZE: Final = "1Gi"
"""No answer is so large, so none is compressed."""
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


def _without_cache(spec: Spec) -> None:
    spec.pop("cache", None)


def _without_doors(spec: Spec) -> None:
    doors = spec.pop("egress", [])
    _readdress(spec, {door["port"]: door["url"].rstrip("/") for door in doors})


def _without_parallel(spec: Spec) -> None:
    spec.get("concurrency", {}).pop("parallelTool", None)


def _without_pages(spec: Spec) -> None:
    spec.get("responses", {}).pop("page", None)


def _uncompressed(spec: Spec) -> None:
    spec.setdefault("responses", {})["compressOver"] = _NO_SIZE


class Part(NamedTuple):
    """A row of the levers: where it stands in a spec, and how a spec is without it."""

    path: tuple[str, ...]
    remove: Callable[[Spec], None]

    def lines(self, spec: Spec) -> str:
        """What the manifest says of it, as YAML; empty where it says nothing."""
        found: Any = spec
        for name in self.path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if not found:
            return ""
        for name in reversed(self.path):
            found = {name: found}
        return written(found)


LEVERS: Final[Mapping[str, Part]] = {
    "cache": Part(("cache",), _without_cache),
    "pooling": Part(("egress",), _without_doors),
    "parallel": Part(("concurrency", "parallelTool"), _without_parallel),
    "paging": Part(("responses", "page"), _without_pages),
    "compression": Part(("responses", "compressOver"), _uncompressed),
}
"""What a manifest may make quicker, or smaller. Compression is always on, and a lever where it is written."""


def concerned(name: str, spec: Spec, tools: Iterable[str]) -> list[str]:
    """The tools that a lever of this spec is about, of those that are called."""
    told = {
        "cache": (spec.get("cache") or {}).get("tools"),
        "paging": ((spec.get("responses") or {}).get("page") or {}).get("tools"),
    }.get(name)
    named = None if told is None else {each["name"] for each in told}
    return [tool for tool in tools if named is None or tool in named]


def levers(spec: Spec) -> dict[str, str]:
    """The levers that a spec has -> its lines."""
    return {name: lines for name, part in LEVERS.items() if (lines := part.lines(spec))}


def without(spec: Spec, names: Iterable[str]) -> Spec:
    """The spec without these of its levers."""
    left = copy.deepcopy(spec)
    for name in names:
        LEVERS[name].remove(left)
    return left


def unlimited(spec: Spec) -> Spec:
    """The spec with limits that a benchmark does not meet. Tiers stay, as keys have them."""
    if "rateLimits" not in spec:
        return spec
    limits = spec["rateLimits"]
    names = [tier["name"] for tier in limits.get("tiers", ())] or list(DEFAULT_TIERS)
    tiers = [{"name": name, "requestsPerMinute": _NO_LIMIT} for name in names]
    kept = {key: limits[key] for key in ("defaultTier",) if key in limits}
    return {**spec, "rateLimits": {**kept, "tiers": tiers}}


def moved(spec: Spec, port: int, doors: Mapping[int, int]) -> Spec:
    """The spec with its server, and its doors, at other ports."""
    left = copy.deepcopy(spec)
    if left.get("transport") != "stdio":
        left["port"] = port
    for door in left.get("egress", ()):
        door["port"] = doors[door["port"]]
    _readdress(left, {old: f"http://127.0.0.1:{new}" for old, new in doors.items()})
    return left


def readdressed(text: str, places: Mapping[int, str]) -> str:
    """A text in which every address of a port on the loopback that moves is where it moves to."""

    def there(match: re.Match[str]) -> str:
        place = places.get(int(match[2]))
        if place is None:
            return match[0]
        return place if match[1] else place.partition("://")[2]

    return re.sub(r"(http://)?(?:127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})(?![0-9])", there, text)


def _readdress(spec: Spec, places: Mapping[int, str]) -> None:
    for variable in spec.get("env", ()):
        if isinstance(variable.get("value"), str):
            variable["value"] = readdressed(variable["value"], places)
    for name in ("command", "args"):
        if name in spec:
            spec[name] = [readdressed(word, places) for word in spec[name]]


def uses_doors(spec: Spec) -> bool:
    """Whether the server is told of a door by its manifest, so that it can be told of none."""
    return started_with(spec) != started_with(without(spec, ["pooling"]))


def started_with(spec: Spec) -> str:
    """What makes a server another one: two that are alike share it."""
    return repr([spec.get(name) for name in ("command", "args", "env", "envFrom", "transport")])


def written(document: Any) -> str:
    """As YAML."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


def spec_of(manifest: Manifest) -> Spec:
    """What a manifest says, and no default."""
    return manifest.spec.model_dump(by_alias=True, exclude_unset=True, mode="json")


@dataclass(frozen=True, slots=True)
class Variant:
    """A manifest to run. `command` starts its server, in place of what it says itself."""

    name: str
    manifest: Manifest
    spec: Spec
    command: tuple[str, ...] = ()

    @property
    def own_server(self) -> str:
        """What makes its server another one; whose doors are its own, that has a server of its own."""
        return f"{started_with(self.spec)}{self.command}{self.name if self.spec.get('egress') else ''}"


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
    say: Callable[[str], None]
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
            spec = moved(spec, port, doors)
            places = {old: f"http://127.0.0.1:{new}" for old, new in doors.items()}
            command: Sequence[str] = [readdressed(word, places) for word in variant.command]
        else:
            spec = moved(spec, port, {door["port"]: door["port"] for door in spec.get("egress", ())})
            command = variant.command
        file = self.folder / f"{len(self.running)}-{variant.name}.yaml"
        _write(file, variant.manifest, spec)
        words = [sys.executable, "-m", "mcpace_cli", "run", str(file), "--listen", "127.0.0.1:0"]
        words += ["--admin-listen", "127.0.0.1:0", *(["--", *command] if command and starts else [])]
        out, err = file.with_suffix(".out"), file.with_suffix(".err")
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(  # noqa: S603 - because the command is the user's own
                words, env=_environment(), stdin=subprocess.DEVNULL, stdout=to_out, stderr=to_err,
                start_new_session=True,
            )  # fmt: skip
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
        port = int(variant.spec.get("port", SERVER_PORT))
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
            line = out.read_text(errors="replace").partition("\n")
            said = err.read_text(errors="replace")
            admin = re.search(rf"http://(\S+){AdminPath.METRICS},", said)
            if line[1] and admin is not None:
                return line[0], f"http://{admin[1]}{AdminPath.METRICS}"
            if running.process.poll() is not None:
                raise ConfigError(f"the server did not start:\n{_tail(said)}")
            left = deadline - time.monotonic()
            if left < 0:
                raise ConfigError(f"the server was not ready within {_PATIENCE:.0f} s:\n{_tail(said)}")
            if not told and left < _PATIENCE - 5:
                told = True
                self.say(f"Waiting for the server:\n{_tail(said)}")
            await asyncio.sleep(_LOOK)


def _tail(said: str) -> str:
    return "\n".join(f"  {line}" for line in said.strip().splitlines()[-_SHOWN:])


def _environment() -> dict[str, str]:
    """Ours without stores that others use, and what guards what we read."""
    kept_from_it = {str(each) for each in (LIMITS_URL, CACHE_URL, ADMIN_TOKEN)}
    kept_from_it |= {f"{name}_FILE" for name in kept_from_it}
    return {name: value for name, value in os.environ.items() if name not in kept_from_it}


def _write(file: Path, manifest: Manifest, spec: Spec) -> None:
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


def missing(manifest: Manifest) -> list[str]:
    """References of the manifest's environment that lead nowhere here."""
    return environment(manifest)[1]

"""The levers of a manifest: each can be taken away, to measure a server with one of them alone. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import yaml

from mcpace_cli.manifest import Manifest
from mcpace_sidecar.contract.config.rate_limits import DEFAULT_TIERS

Spec = dict[str, Any]
"""A manifest's spec as it is written."""

_NO_LIMIT: Final = 1_000_000
"""Calls a minute: the most that a tier may say."""
_NO_SIZE: Final = "1Gi"
"""No answer is so large, so none is compressed."""


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
"""What a manifest may make quicker, or smaller. Compression is always on; a lever where it is written."""


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

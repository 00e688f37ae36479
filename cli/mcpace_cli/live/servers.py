"""Which servers `mcpace run` is asked for, told apart: each its name and its ports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from mcpace_cli.asked import Asked
from mcpace_cli.manifest import Manifest, names, read
from mcpace_sidecar.errors import ConfigError

_HIGHEST: Final = 65535
_FIRST: Final = 1024
"""The lowest port that anybody may listen on."""


class Server(NamedTuple):
    """One of them."""

    name: str
    """What people know it by among the others."""
    asked: Asked


def servers(asked: Asked, manifests: Sequence[Path]) -> list[Server]:
    """All of them: every McpServer of the manifests, or the one that `asked.name` names; ConfigError.

    What `asked` says else is said of each; without a manifest there is one, of its command.
    """
    for path in manifests:
        if path.parts[:1] in (("http:",), ("https:",)):
            words = "mcpace init --from URL --out FILE writes one for a server that runs"
            raise ConfigError(f"A URL is no MANIFEST: {words}")
        if not path.exists():
            words = "write mcpace run MANIFEST -- COMMAND, or for a server of stdio mcpace run -- COMMAND"
            raise ConfigError(f"{path}: no such file; {words}")
    if not manifests:
        return [Server("server", asked)]
    if asked.name is not None:
        return [Server(asked.name, replace(asked, manifest=manifests[0]))]
    each = [(path, name) for path in manifests for name in names(path)]
    if len(each) == 1:
        return [Server(each[0][1] or "server", replace(asked, manifest=manifests[0]))]
    _refuse_what_is_ones(asked, each, one_file=len(manifests) == 1)
    known = [read(path, name) for path, name in each]
    _tell_apart(known)
    short = Counter(_short(manifest) for manifest in known)
    return [
        Server(
            _short(manifest) if short[_short(manifest)] == 1 else manifest.name,
            replace(asked, manifest=path, name=name, ports=ports),
        )
        for (path, name), manifest, ports in zip(each, known, _ports(known), strict=True)
    ]


def _short(manifest: Manifest) -> str:
    return manifest.name.partition("/")[2]


def _refuse_what_is_ones(asked: Asked, each: Sequence[tuple[Path, str]], *, one_file: bool) -> None:
    """Refuse what can be said of one server alone."""
    listed = ", ".join(name for _, name in each)
    choice = f", or choose one by --name: {listed}" if one_file else f": {listed}"
    if asked.command:
        raise ConfigError(
            f"What stands after -- starts one server, and there are {len(each)}: write each one's `command`"
            f" into its manifest{choice}"
        )
    for flag, value, field in (
        ("--listen", asked.listen, "sidecar.port"),
        ("--admin-listen", asked.admin_listen, "sidecar.adminPort"),
    ):
        if value is not None:
            words = f"{flag} is one place, and there are {len(each)} servers: write each one's"
            raise ConfigError(f"{words} `{field}` into its manifest{choice}")


def _tell_apart(manifests: Sequence[Manifest]) -> None:
    """Refuse two of one name, and two that would start servers on one port."""
    for name, count in Counter(manifest.name for manifest in manifests).items():
        if count > 1:
            raise ConfigError(f"{count} servers are called {name}: give each a metadata.name of its own")
    starting: dict[int, Manifest] = {}
    for manifest in manifests:
        spec = manifest.spec
        if spec.transport == "stdio" or not spec.command:
            continue
        other = starting.setdefault(spec.port, manifest)
        if other is not manifest:
            raise ConfigError(
                f"The commands of {other.name} and {manifest.name} would both listen on port {spec.port}:"
                " write another `port` into one of the manifests"
            )


def _ports(manifests: Sequence[Manifest]) -> list[tuple[int, int]]:
    """The ports of calls and of the admin port: those that are written, or the next that nobody has."""
    taken = {manifest.spec.port for manifest in manifests if manifest.spec.transport != "stdio"}

    def next_from(port: int) -> int:
        while port in taken:
            port = port + 1 if port < _HIGHEST else _FIRST
        taken.add(port)
        return port

    # What is written comes first: a port that nobody asked for gives way.
    wishes = sorted(
        (field not in manifest.spec.sidecar.model_fields_set, number, field)
        for number, manifest in enumerate(manifests)
        for field in ("port", "admin_port")
    )
    found = {
        (number, field): next_from(getattr(manifests[number].spec.sidecar, field))
        for _, number, field in wishes
    }
    return [(found[number, "port"], found[number, "admin_port"]) for number in range(len(manifests))]

"""`mcpace check NAME|URL`: the ten items of the checklist on a running server, and what mends it.

The verdicts are the operator's, of all replicas; at a URL they are a laptop's sidecar's, which judges by
the same code. What mends is shown as the manifest's own fields would stand after it.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import click
import yaml

from mcpace_cli.cluster.access import Where, reached
from mcpace_cli.cluster.sidecars import URL, AdminPort, hear
from mcpace_cli.show import Format, plain, show, written
from mcpace_operator.resource.server import Server
from mcpace_operator.status.checklist import Result
from mcpace_operator.status.reasons import Type
from mcpace_operator.status.stored import stored
from mcpace_sidecar.contract.report import Item, Report
from mcpace_sidecar.contract.surface import STATS_RECENT
from mcpace_sidecar.errors import ConfigError

_COLUMNS: Final = ("ITEM", "RESULT", "EVIDENCE")
_NOT_JUDGED: Final = (
    "nothing has judged it yet. It takes a ready replica and a look of the operator's, every quarter of a"
    " minute or so: see `mcpace top`"
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A running server, and how each item stands."""

    name: str
    items: Sequence[Item]
    spec: Mapping[str, Any]
    """What its manifest says; {} where that is not known."""
    note: str = ""
    """What is to be known of them."""

    @property
    def failed(self) -> list[Item]:
        """Those that failed."""
        return [each for each in self.items if each.result == Result.FAILED.value]

    @property
    def document(self) -> dict[str, Any]:
        """As programs read it."""
        items = [
            {"name": each.name, "result": each.result, "evidence": each.evidence}
            | ({"mend": each.mend} if each.mend else {})
            for each in self.items
        ]
        return {"server": self.name, "passed": not self.failed, "items": items, "mended": self.mended}

    @property
    def mended(self) -> dict[str, Any]:
        """The fields of the manifest's spec that mend what failed, as they would stand then."""
        return mended(self.spec, [each.mend for each in self.failed if each.mend])


def run(servers: Sequence[str], where: Where, output: Format) -> int:
    """Print how each stands; the exit code is 1 where one failed. SilentError, ConfigError, ApiError."""
    judged = asyncio.run(_all(servers, where))
    for each in judged:
        if each.note:
            click.echo(plain(f"{each.name}: {each.note}"), err=True)
    if output != "table":
        told = [each.document for each in judged]
        click.echo(written(told[0] if len(told) == 1 else {"servers": told}, output), nl=False)
    else:
        for number, each in enumerate(judged):
            if number:
                click.echo()
            _show(each)
    return int(any(each.failed for each in judged))


async def _all(servers: Sequence[str], where: Where) -> list[Judged]:
    return [await (_at(each) if URL.match(each) else _named(each, where)) for each in servers]


async def _named(name: str, where: Where) -> Judged:
    """A server of the cluster, by its status: it takes the rights of `view`."""
    async with reached(where) as access:
        server = Server.from_body(await access.server(name))
    items = status_items(server.status)
    if not items:
        ready = stored(server.status).get(Type.Ready.name)
        said = f" It is not ready: {ready.message}" if ready is not None and ready.status != "True" else ""
        raise ConfigError(f"{server.key}: {_NOT_JUDGED}.{said}")
    old = server.status.get("observedGeneration") != server.generation
    note = "The operator has not looked at the manifest as it is now: these are of the one before."
    return Judged(str(server.key), items, server.spec, note if old else "")


async def _at(url: str) -> Judged:
    """The server behind a laptop's sidecar."""
    port = AdminPort.of(url)
    heard = await hear([port], STATS_RECENT, Report)
    (report,) = heard.told.values()
    if not report.checklist:
        raise ConfigError(
            f"{port.name} is a sidecar of a pod, and the operator judges these: write the server's name"
        )
    judged = Judged(port.name, report.checklist, {})
    beside = "What mends goes beside what the manifest has already."
    return replace(judged, note=beside) if judged.mended else judged


def status_items(status: Mapping[str, Any]) -> list[Item]:
    """The items of a status, be they whoever's."""
    found = status.get("checklist")
    listed = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    names = ("name", "result", "evidence", "mend")
    return [Item(*(str(each.get(name) or "") for name in names)) for each in listed]


def mended(spec: Mapping[str, Any], mends: Iterable[str]) -> dict[str, Any]:
    """What `mends` say, put into the fields of a spec that they concern."""
    result: dict[str, Any] = {}
    for mend in mends:
        for name, value in _lines(mend).items():
            result[name] = _joined(result.get(name, copy.deepcopy(spec.get(name))), value)
    return result


def _lines(mend: str) -> dict[str, Any]:
    """What it says; {} where it cannot be read, since a tool of anybody's may be named in it."""
    try:
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(mend, Loader=yaml.SafeLoader)):
            return {}  # a few of these stand for any number of values
        read = yaml.safe_load(mend)
        json.dumps(read, allow_nan=False)  # a date is in no manifest, nor in what programs read
    except (yaml.YAMLError, LookupError, AttributeError, TypeError, ValueError, RecursionError):
        return {}  # what a value is not that its tag says it is, PyYAML tells by any of these
    return read if isinstance(read, dict) else {}


def _joined(there: Any, more: Any) -> Any:
    """What stands there, with more: of items with names, those of the same name are joined."""
    if isinstance(there, Mapping) and isinstance(more, Mapping):
        return dict(there) | {name: _joined(there.get(name), value) for name, value in more.items()}
    if isinstance(there, list) and isinstance(more, list):
        return _listed(there, more)
    return more


def _listed(there: list[Any], more: list[Any]) -> list[Any]:
    result = list(there)
    names = [each.get("name") if isinstance(each, Mapping) else None for each in result]
    for each in more:
        name = each.get("name") if isinstance(each, Mapping) else None
        if name is not None and name in names:
            at = names.index(name)
            result[at] = _joined(result[at], each)
        else:
            result.append(each)
            names.append(name)
    return result


def _show(judged: Judged) -> None:
    count = len(judged.items)
    click.echo(plain(f"{judged.name}: {count - len(judged.failed)} of {count} do not fail"))
    show(None, "table", _COLUMNS, [(each.name, each.result, each.evidence) for each in judged.items])
    lines = judged.mended
    if lines:
        click.echo("\nWhat mends those that fail, in the manifest:\n")
        click.echo(plain(yaml.safe_dump({"spec": lines}, sort_keys=False, allow_unicode=True)), nl=False)
    without = [each.name for each in judged.failed if not _lines(each.mend)]
    if without:
        click.echo(plain(f"\nNo line of a manifest mends {', '.join(without)}: see the evidence."))

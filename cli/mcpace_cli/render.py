"""`mcpace render`: what the operator would apply for a manifest, by its own code and without a cluster.

What only a cluster or a release knows is given by options and by the operator's own environment. What is
secret is made like everything else, since other children bear its hash, and is never printed.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import yaml

from mcpace_cli.commands import NO_UID
from mcpace_cli.manifest import Resource, resources
from mcpace_cli.show import Format, show, written
from mcpace_operator.children import children
from mcpace_operator.children.context import Context
from mcpace_operator.cluster.kinds import OPTIONAL
from mcpace_operator.comparison.drift import stamped
from mcpace_operator.masterkey import SHORTEST, MasterKey
from mcpace_operator.resource.server import Key, Server
from mcpace_operator.settings import OperatorSettings
from mcpace_operator.stores.redis import Stores
from mcpace_sidecar.contract.environment import MASTER_KEY

MASKED: Final = "<the operator's: not printed>"
"""Stands for what a Secret holds; no base64, so that no API server takes it for that."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    manifest: Path
    name: str | None
    namespace: str | None
    uid: str
    restricted: bool
    prometheus: bool
    output: Format


def run(asked: Asked) -> None:
    """Print the children; ConfigError for what a person must mend."""
    settings, whole = _settings()
    made = [
        child
        for each in resources(asked.manifest, asked.name)
        for child in _children(each, asked, settings)
    ]
    masked = [json.loads(json.dumps(_masked(child))) for child in made]  # so that YAML needs no anchors
    if asked.output == "yaml":
        click.echo(yaml.safe_dump_all(masked, sort_keys=False, allow_unicode=True), nl=False)
    elif asked.output == "json":
        click.echo(written({"apiVersion": "v1", "kind": "List", "items": masked}, "json"), nl=False)
    else:
        rows = [(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) for each in masked]
        show(masked, "table", ("KIND", "NAMESPACE", "NAME"), rows)
    for note in _notes(asked, whole):
        click.echo(note, err=True)


def _settings() -> tuple[OperatorSettings, bool]:
    """What the operator's environment says, as far as it is this one's; whether it has a master key."""
    whole = MasterKey.from_environment() is not None
    if not whole:
        os.environ[str(MASTER_KEY)] = "-" * SHORTEST
    return OperatorSettings.from_environment(), whole


def _children(resource: Resource, asked: Asked, settings: OperatorSettings) -> Iterator[dict[str, Any]]:
    key = Key(asked.namespace or resource.metadata.namespace, resource.metadata.name)
    server = Server(key, asked.uid, 1, {}, {})
    credentials = asyncio.run(Stores(settings).credentials(server))
    kinds = frozenset(OPTIONAL if asked.prometheus else ())
    context = Context(server, resource.spec, settings, credentials, kinds, asked.restricted)
    return map(stamped, children(context))


def _masked(child: dict[str, Any]) -> dict[str, Any]:
    """The same without what is secret in it."""
    return child | {"data": dict.fromkeys(child["data"], MASKED)} if child["kind"] == "Secret" else child


def _notes(asked: Asked, whole: bool) -> Iterator[str]:
    yield "What the Secret holds is not printed. Replicas are written apart, by what scales the Deployment."
    if asked.uid == NO_UID:
        yield "As of no cluster: --uid is the metadata.uid by which children name their owner in one."
    if not whole:
        yield (
            f"Without {MASTER_KEY} (and the operator's other variables) what is derived from it differs:"
            " the annotations mcpace.dev/secret, mcpace.dev/secret-written and mcpace.dev/hash."
        )

"""`mcpace tools`, `resources`, `prompts`: what a server lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import click

from mcpace_cli.remote import Link, Listed, ask
from mcpace_cli.show import Format, show
from mcpace_cli.target import Target
from mcpace_sidecar.mcp.catalog import Catalog, ServerInfo

What = Literal["tools", "resources", "prompts"]
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    target: Target
    what: What
    wait: float
    all_pages: bool
    output: Format


class _Shown(NamedTuple):
    """How one kind is shown to people."""

    columns: tuple[str, ...]
    row: Callable[[Item], tuple[object, ...]]


def run(asked: Asked) -> None:
    """Print the list."""
    lists: tuple[Literal["tools", "resources", "resource_templates", "prompts"], ...] = (
        ("resources", "resource_templates") if asked.what == "resources" else (asked.what,)
    )

    async def listed(link: Link) -> list[Listed]:
        return [await link.listed(each, every=asked.all_pages) for each in lists]

    found = ask(asked.target, listed, asked.wait)
    items = [item for each in found for item in each.items]
    shown = _SHOWN[asked.what]
    show({asked.what: items}, asked.output, shown.columns, map(shown.row, items))
    if any(each.more for each in found):
        click.echo("There are more: --all-pages shows them.", err=True)
    if not items:
        click.echo(f"The server lists no {asked.what}.", err=True)


def catalog(target: Target) -> Catalog:
    """What a server lists, as a sidecar knows it; AskError."""

    async def learned(link: Link) -> Catalog:
        known, info = Catalog(), link.client.server_info
        prompts = await link.listed("prompts", every=True)
        known.learn(
            ServerInfo(
                info.name if info else "", info.version if info else "", link.client.protocol_version
            ),
            (await link.listed("tools", every=True)).items,
            prompts.items,
        )
        return known

    return ask(target, learned)


_HINTS: Final = (
    ("readOnlyHint", "read-only", "writes"),
    ("destructiveHint", "destructive", ""),
    ("idempotentHint", "idempotent", ""),
    ("openWorldHint", "open-world", ""),
)
"""A hint of a tool's annotations -> what is shown where it is true, and where it is false."""


def hints(tool: Item) -> Iterator[str]:
    """What a tool's annotations say of it, as far as they do."""
    notes = tool.get("annotations")
    for name, true, false in _HINTS:
        said = notes.get(name) if isinstance(notes, dict) else None
        if isinstance(said, bool) and (word := true if said else false):
            yield word


def _arguments(schema: Any) -> str:
    """`city days?`: those that may be left out bear a question mark."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    needed = schema.get("required") if isinstance(schema, dict) else None
    names = properties if isinstance(properties, dict) else {}
    return " ".join(name if name in (needed or ()) else f"{name}?" for name in names)


def _tool(item: Item) -> tuple[object, ...]:
    return item.get("name"), _arguments(item.get("inputSchema")), ", ".join(hints(item)), _words(item)


def _resource(item: Item) -> tuple[object, ...]:
    uri = item.get("uri") or item.get("uriTemplate")
    return uri, item.get("name"), item.get("mimeType"), item.get("size"), _words(item)


def _prompt(item: Item) -> tuple[object, ...]:
    arguments = item.get("arguments") or ()
    names = (each["name"] if each.get("required") else f"{each['name']}?" for each in arguments)
    return item.get("name"), " ".join(names), _words(item)


def _words(item: Item) -> str:
    return str(item.get("description") or item.get("title") or "")


_SHOWN: Final[dict[What, _Shown]] = {
    "tools": _Shown(("NAME", "ARGUMENTS", "HINTS", "DESCRIPTION"), _tool),
    "resources": _Shown(("URI", "NAME", "TYPE", "BYTES", "DESCRIPTION"), _resource),
    "prompts": _Shown(("NAME", "ARGUMENTS", "DESCRIPTION"), _prompt),
}

"""Which calls are made: of tools named or agreed to, with arguments that were given or are made."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from mcpace_cli.bench.arguments import UnmadeError, make
from mcpace_cli.bench.asked import Asked, say
from mcpace_cli.bench.load import PARALLEL, Call, Server, Step, same
from mcpace_cli.show import plain
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.errors import ConfigError, McpaceError

_OWN_TOOLS: Final = frozenset({PARALLEL, "next_page"})
"""The sidecar's, which are no server's."""
_WORDS: Final = 60


async def calls(asked: Asked, server: Server, notes: list[str]) -> list[Call]:
    """The calls to make, agreed to, and tried once each tool; ConfigError."""
    try:
        listed = {tool["name"]: tool for tool in await server.tools()}
    except McpaceError as error:
        raise ConfigError(f"the tools cannot be listed: {error}") from None
    names = list(asked.tools) or _agreed(asked, listed)
    for name in asked.tools:
        if name not in listed:
            meant = Vocabulary(listed).meant(name)
            raise ConfigError(f"there is no tool {plain(name)}, but {_some(listed)}{meant}")
    given = _given(asked, names)
    chosen: list[list[Call]] = []
    for name in dict.fromkeys(names):
        schema = listed[name].get("inputSchema")
        some: list[Call] = []
        try:
            some = [Call(name, each, schema) for each in given.get(name) or _made(asked, name, schema)]
            refused = await server.trial(some[0])
        except UnmadeError as error:
            refused = str(error)
        if not refused:
            chosen.append(some)
            continue
        words = f"{plain(name)}: {plain(refused)}"
        if name in given:
            say(words)  # to whoever gave them alone: it may repeat what they are
            notes.append(f"{plain(name)}: the tool fails with the first of the arguments given.")
            chosen.append(some)
        elif asked.tools:
            raise ConfigError(f"{words}. Give arguments that it takes: --arguments '{{…}}'")
        else:
            say(f"Left out: {words}")
    if not chosen:
        raise ConfigError("no tool is left that can be called; name one by --tool, with its --arguments")
    # The tools in turn, each as often.
    return [some[at % len(some)] for at in range(max(map(len, chosen))) for some in chosen]


def _some(names: Any) -> str:
    listed = [plain(name) for name in names]
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return ", ".join(listed[:20]) + more or "none at all"


def _agreed(asked: Asked, listed: dict[str, Any]) -> list[str]:
    """The tools that say that they only read, once that is agreed to; ConfigError."""
    found = [
        name
        for name, tool in listed.items()
        if isinstance(tool.get("annotations"), dict)
        and tool["annotations"].get("readOnlyHint") is True
        and name not in _OWN_TOOLS
    ]
    if not found:
        words = "no tool says that it only reads (readOnlyHint); name what may be called by --tool"
        raise ConfigError(f"{words}: {_some(listed)}")
    say("These tools say that they only read, and will be called many times:")
    for name in found:
        words = plain(str(listed[name].get("description") or "")).strip().partition("\n")[0]
        say(f"  {plain(name)}  {words[:_WORDS]}")
    if asked.yes:
        return found
    if not sys.stdin.isatty():
        raise ConfigError("nobody is here to agree: say --yes, or name tools by --tool")
    if not click.confirm("Call them?", err=True):
        raise ConfigError("nothing was called; name tools by --tool")
    return found


def _made(asked: Asked, name: str, schema: Any) -> list[dict[str, Any]]:
    """Different arguments for a tool, as many as were asked for or there are; UnmadeError."""
    found: dict[bytes, dict[str, Any]] = {}
    for at in range(asked.distinct * 2):
        made = make(schema, f"{asked.seed} {name} {at}", optional=asked.optional)
        found.setdefault(msgspec.json.encode(made), made)
        if len(found) == asked.distinct:
            break
    return list(found.values())


def _given(asked: Asked, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Arguments of the command line, tool by tool; ConfigError, which repeats none of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for text in asked.arguments:
        tool, equals, rest = ("", "", text) if text[:1] in "{[@" else text.partition("=")
        if tool and (not equals or tool not in names):
            raise ConfigError(
                "--arguments: write JSON, @FILE, or TOOL=JSON with one of the tools that are called"
            )
        try:
            told = json.loads(Path(rest[1:]).read_text(encoding="utf-8") if rest.startswith("@") else rest)
        except OSError as error:
            raise ConfigError(f"--arguments {rest}: {error.strerror}") from None
        except (ValueError, RecursionError):
            raise ConfigError('--arguments holds no JSON; write \'{"city": "Paris"}\'') from None
        several = told if isinstance(told, list) else [told]
        if not several or not all(isinstance(each, dict) for each in several):
            raise ConfigError("--arguments: write an object, or a list of objects to be taken in turn")
        for name in [tool] if tool else names:
            found.setdefault(name, []).extend(several)
    return found


def steps(made: Sequence[Call], together: int) -> list[Step]:
    """As many steps as there are calls, each of so many that follow each other."""
    number = len(made)
    steps = [
        tuple(made[(at * together + more) % number] for more in range(together)) for at in range(number)
    ]
    return list({same(step): step for step in steps}.values())

"""`mcpace call`: one tool called, or all of them listed, over any transport."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import click
import httpx2
from mcp import MCPError
from prometheus_client.parser import text_string_to_metric_families

from mcpace_cli import listing
from mcpace_cli.probe import argument, texts
from mcpace_cli.remote import PASSING, AskError, Limit, Link, ask
from mcpace_cli.show import Format, first_line, plain, written
from mcpace_cli.target import LOCAL, Target
from mcpace_sidecar.call.policies import NEXT_PAGE
from mcpace_sidecar.contract.surface import ADMIN_PORT, DATA_PORT, Path

_CACHE: Final = "mcpace_cache_requests_total"
_MISS: Final = "miss"
_NEXT: Final = re.compile(rf"Call ((?:mcpace_)?{NEXT_PAGE}) with this handle")
"""How a first page names the tool that reads the others. No text of a result has another one called."""
_MOST_PAGES: Final = 10_000
"""Pages of one result that are read."""
_LOOKING: Final = 10.0
"""Seconds that a sidecar's metrics may take."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    target: Target
    tool: str | None
    arguments: tuple[str, ...]
    wait: float
    timeout: float
    """Seconds that the tool may take."""
    all_pages: bool
    admin: str | None
    """Where the sidecar's admin port is; None where that is to be guessed."""
    output: Format | None
    """None: the result in JSON, or the tools line by line."""


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a call."""

    result: dict[str, Any]
    milliseconds: float
    limits: tuple[Limit, ...]
    cache: str | None
    """Where the result was: `miss` is at the server; None where nobody says."""

    @property
    def facts(self) -> str:
        """In one line."""
        told = [f"{self.milliseconds:.0f} ms"]
        if self.cache is not None:
            told.append("cache: miss" if self.cache == _MISS else f"cache: hit ({self.cache})")
        if self.limits:
            left = (
                f"{each.remaining} of {each.name} (whole in {each.reset_seconds} s)" for each in self.limits
            )
            told.append(f"left: {', '.join(left)}")
        return "; ".join(told)


def run(asked: Asked) -> None:
    """Print the result, or the tools; exit code 1 where the tool says that it failed."""
    tool = asked.tool
    for text in asked.arguments:
        argument(text)  # before anybody is asked
    if tool is None and asked.output is not None:
        listing.run(listing.Asked(asked.target, "tools", asked.wait, asked.all_pages, asked.output))
        return
    if tool is None:
        listed = ask(asked.target, lambda link: link.listed("tools", every=asked.all_pages), asked.wait)
        for each in listed.items:
            click.echo(f"{first_line(each.get('name'))}\t{first_line(each.get('description'))}")
        return
    admin = _admin(asked)
    before = _counted(admin, tool)
    called = ask(asked.target, lambda link: _call(link, tool, asked), asked.wait)
    if before is not None:
        called = Called(
            called.result, called.milliseconds, called.limits, _where(before, _counted(admin, tool))
        )
    _show(called, asked.output)
    click.echo(plain(called.facts), err=True)
    sys.exit(1 if called.result.get("isError") else 0)


async def _call(link: Link, tool: str, asked: Asked) -> Called:
    tools: list[dict[str, Any]] = []
    try:  # the client judges results by it, and would ask for it in between
        tools = (await link.listed("tools", every=False)).items
    except MCPError as error:
        if error.code in PASSING:
            raise
    as_text = texts(tools, tool)
    arguments = dict(argument(each, as_text) for each in asked.arguments)
    began = time.perf_counter()
    given = await link.call(tool, arguments, asked.timeout)
    milliseconds = (time.perf_counter() - began) * 1000
    result = given.model_dump(mode="json", by_alias=True, exclude_none=True)
    limits = link.heard.limits
    if asked.all_pages:
        result = await _whole(link, result, asked.timeout)
    return Called(result, milliseconds, limits, None)


async def _whole(link: Link, result: dict[str, Any], patience: float) -> dict[str, Any]:
    """A result of which this is the first page; any other as it is. AskError."""
    page = _page(result)
    if page is None:
        return result
    data, pages = page["data"], page["total_pages"]
    named = _NEXT.search(str(page.get("message", "")))
    if pages > _MOST_PAGES:
        raise AskError(f"the result says that it has {pages:,} pages: too many to read all.", passing=False)
    for number in range(2, pages + 1):
        arguments = {"handle": page["handle"], "page": number}
        given = await link.call(named[1] if named else NEXT_PAGE, arguments, patience)
        further = _page(given.model_dump(mode="json", by_alias=True, exclude_none=True))
        if given.is_error or further is None or type(further["data"]) is not type(data):
            raise AskError(
                f"page {number} of {pages} could not be read: {_texts(given.content)}", passing=False
            )
        data = data + further["data"]
    whole = {name: value for name, value in page.items() if name not in ("handle", "message")}
    whole |= {"data": data, "showing": len(data), "page_size": len(data), "total_pages": 1}
    content = [{"type": "text", "text": json.dumps(whole, ensure_ascii=False)}, *result["content"][1:]]
    more = {"structuredContent": whole} if _is_page(result.get("structuredContent")) else {}
    return result | {"content": content} | more


def _page(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The page that a result holds, in its first text."""
    content = result.get("content") or [{}]
    with contextlib.suppress(ValueError):
        page = json.loads(content[0].get("text") or "null")
        if _is_page(page):
            return dict(page)
    return None


def _is_page(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("handle"), str)
        and isinstance(value.get("total_pages"), int)
        and isinstance(value.get("data"), list | str)
    )


def _texts(content: Any) -> str:
    return " ".join(str(getattr(each, "text", "")) for each in content)


def _show(called: Called, output: Format | None) -> None:
    if output is None:
        click.echo(written(called.result, "json"), nl=False)
    elif output == "table":
        for block in called.result.get("content") or ():
            kind = block.get("mimeType") or block.get("type")
            click.echo(plain(block["text"]) if block.get("type") == "text" else f"[{plain(str(kind))}]")
    else:
        told = {
            "result": called.result,
            "milliseconds": round(called.milliseconds, 3),
            "cache": called.cache,
            "limits": [
                {"name": each.name, "remaining": each.remaining, "resetSeconds": each.reset_seconds}
                for each in called.limits
            ],
        }
        click.echo(written(told, output), nl=False)


def _admin(asked: Asked) -> str | None:
    """Where the sidecar's metrics are: as asked for, or of the usual port the usual one beside it."""
    if asked.admin is not None or not asked.target.url:
        return asked.admin
    parts = urlsplit(asked.target.url)
    here = parts.hostname in LOCAL and parts.port == DATA_PORT
    return f"http://127.0.0.1:{ADMIN_PORT}" if here else None


def _counted(admin: str | None, tool: str) -> dict[str, float] | None:
    """Where results of a tool were so far; None where nobody says."""
    if admin is None:
        return None
    try:
        text = httpx2.get(admin.rstrip("/") + Path.METRICS, timeout=_LOOKING, trust_env=False).text
        return {
            sample.labels.get("result", ""): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == _CACHE and sample.labels.get("tool") == tool
        }
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        return None


def _where(before: Mapping[str, float], after: Mapping[str, float] | None) -> str | None:
    """Where the result was that was asked for in between; None where others asked too, or nobody counts."""
    more = {name: value - before.get(name, 0) for name, value in (after or {}).items()}
    grown = {name: value for name, value in more.items() if value}
    return next(iter(grown)) if list(grown.values()) == [1] else None

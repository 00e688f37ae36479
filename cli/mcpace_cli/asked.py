"""What `mcpace run` is asked for, about one server."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for; ports that are None are chosen."""

    manifest: Path | None = None
    command: tuple[str, ...] = ()
    port: int | None = None
    listen: str | None = None
    admin_listen: str | None = None
    keys: Path | None = None
    name: str | None = None
    ports: tuple[int, int] | None = None
    """Of calls and of the admin port: those of the manifest, unless others have them. Where one is taken,
    any free one is listened on instead."""
    led: bool = False
    """Whether another process shows this one to people: standard input is the tie to it."""


def written(asked: Asked) -> str:
    """It as text, for the process that serves."""
    return json.dumps(asdict(asked), default=str)


def read(text: str) -> Asked:
    """What was `written`."""
    told = json.loads(text)
    for name in ("manifest", "keys"):
        told[name] = None if told[name] is None else Path(told[name])
    for name in ("command", "ports"):
        told[name] = None if told[name] is None else tuple(told[name])
    return Asked(**told)


def redis_url(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """The URL of a Redis, without a password; BadParameter."""
    if value is None:
        return None
    try:
        place = urlsplit(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not place.scheme:
        raise click.BadParameter("write for example redis://127.0.0.1:6379/0")
    if place.password is not None or "password" in parse_qs(place.query):
        raise click.BadParameter(
            "others see a command line: put a URL with a password into the variables MCPACE_LIMITS_URL and"
            " MCPACE_CACHE_URL, or into the files that MCPACE_LIMITS_URL_FILE and MCPACE_CACHE_URL_FILE"
            " name"
        )
    return value

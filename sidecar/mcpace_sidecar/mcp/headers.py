"""Headers that mirror the body of a modern call: `Mcp-Name`, and `Mcp-Param-*` where a tool's schema asks.

Source: MCP 2026-07-28, basic/transports, standard and custom headers.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DEEPEST: Final = 16

Mirrored = dict[tuple[str, ...], str]
"""The path of an argument -> what its header is called after `Mcp-Param-`."""


def mirrored(schema: Any) -> Mirrored:
    """The arguments that a tool's input schema wants mirrored (`x-mcp-header`)."""
    return dict(_annotated(schema, ()))


def _annotated(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(schema, Mapping) or len(path) > _DEEPEST:
        return
    token = schema.get("x-mcp-header")
    if path and isinstance(token, str) and _TOKEN.fullmatch(token):
        yield path, token
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        for name, inner in properties.items():
            yield from _annotated(inner, (*path, str(name)))


def lines(wanted: Mirrored, arguments: Any) -> bytes:
    """The header lines of a call with these arguments."""
    written = b""
    for path, token in wanted.items():
        value = arguments
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, bool):
            value = "true" if value else "false"
        if isinstance(value, str | int):
            written += b"Mcp-Param-%b: %b\r\n" % (token.encode(), header_value(str(value)))
    return written


def header_value(text: str) -> bytes:
    """A text as the value of a header: as it is, or, where that would not survive, in base64."""
    if text.isascii() and text.isprintable() and text.strip() == text and not text.startswith("=?base64?"):
        return text.encode()
    return b"=?base64?" + base64.b64encode(text.encode()) + b"?="

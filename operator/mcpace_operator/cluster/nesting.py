"""What the API server sends, as Python can hold it: what is nested too deeply is left out.

An API server stores what is nested ten thousand deep. Whoever may write a single object could so end
whatever reads its kind, and every other server would be without its operator.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
from pydantic_core import from_json

DEEPEST: Final = 100
"""Levels that are kept; a pod has some twenty."""
_MARKS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)


def decoded(text: bytes) -> Any:
    """JSON as objects; ValueError where it is none."""
    try:
        return from_json(text)  # which gives up at 200 levels, be Python's own limit what it may
    except ValueError as error:
        if not _is_too_deep(error):
            raise
    return from_json(shallow(text))


def shallow(text: bytes) -> bytes:
    """The same JSON, with nothing in what is nested too deeply."""
    parts, depth, start = [], 0, 0
    for found in _MARKS.finditer(text):
        mark = found[0]
        if mark in (b"{", b"["):
            depth += 1
            if depth == DEEPEST:
                parts.append(text[start : found.end()])
        elif mark in (b"}", b"]"):
            if depth == DEEPEST:
                start = found.start()
            depth -= 1
    return b"".join([*parts, text[start:]])


def _is_too_deep(error: ValueError) -> bool:
    return "recursion limit" in str(error)


class ShallowResponse(aiohttp.ClientResponse):
    """An answer whose JSON is so read, also by a library that reads a watch line by line."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Begin to read; see aiohttp."""
        await super().start(connection)
        if self.url.query.get("watch") == "true":
            self.content = _Lines(self.content)  # type: ignore[assignment]  # because it stands for one
        return self

    async def json(self, **_: Any) -> Any:
        """The body; ValueError where it is no JSON."""
        return decoded(await self.read())


class _Lines:
    """A stream of lines of JSON, none nested too deeply."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Whole lines; what follows the last one, at the end."""
        rest = b""
        async for piece in self._content.iter_chunked(size):
            *lines, rest = (rest + piece).split(b"\n")
            if lines:
                yield b"".join(_kept(line) + b"\n" for line in lines)
        if rest:
            yield _kept(rest)


def _kept(line: bytes) -> bytes:
    try:
        from_json(line)
    except ValueError as error:
        return shallow(line) if _is_too_deep(error) else line
    return line

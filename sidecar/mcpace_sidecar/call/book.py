"""The book of a result that is given in pages: its items one after another, and where each ends. Pure.

A page is a slice of that, so reading one costs what the page is long. The words of a page are those of
the tutorial: data, total, showing, page, page_size, total_pages, message.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import msgspec

from mcpace_sidecar.mcp.jsonrpc import BookHead

MAX_PAGE: Final = 100
"""Items of a page at most."""
KEPT: Final = 600.0
"""Seconds that the pages of a result can be read."""
LINE: Final = 512
WIDTH: Final = 4
_head: Final = msgspec.json.Decoder(BookHead)


class Book:
    """What the pages of one result are made from, as one string: a line of facts, ends, and items."""

    __slots__ = ("_at", "_ends", "_kept", "count", "largest", "page_size", "structured", "text", "total")

    def __init__(self, kept: bytes) -> None:
        """ValueError where that is no book."""
        line, _, _ = kept[:LINE].partition(b"\n")
        head = _head.decode(line)
        self._kept = kept
        self._ends = len(line) + 1
        self.count: int = head.count
        """Items, or slices of a text."""
        self._at = self._ends + WIDTH * self.count
        self.page_size: int = head.page_size
        self.largest: int = head.largest
        """Items of a page at most, whichever page it is."""
        self.total: int = head.total
        """Items, or characters of a text."""
        self.text: bool = head.text
        self.structured: bool = head.structured
        """Whether pages are given as structured content too."""

    def slice(self, first: int, count: int) -> bytes:
        """Some items with the commas between them, or slices of the text."""
        last = min(first + count, self.count)
        start = self._end(first - 1) + (0 if self.text else 1) if first else 0
        return self._kept[self._at + start : self._at + self._end(last - 1)]

    def _end(self, index: int) -> int:
        at = self._ends + WIDTH * index
        return int.from_bytes(self._kept[at : at + WIDTH], "little")


def bind(head: BookHead, ends: list[int], document: bytes) -> bytes:
    """The book of a document of items, each of which ends where `ends` says."""
    places = array("I", ends)
    if places.itemsize != WIDTH:  # pragma: no cover - on no machine that this runs on
        raise ValueError("an unsigned int of C has no 4 bytes here")
    return b"".join((msgspec.json.encode(head), b"\n", places.tobytes(), document))


class Rest:
    """What of a result is not paged, and stays on its first page."""

    __slots__ = ("content", "fields", "rest")

    def __init__(
        self, content: list[msgspec.Raw], rest: dict[str, msgspec.Raw], fields: dict[str, msgspec.Raw]
    ) -> None:
        self.content = content
        """Blocks of its content."""
        self.rest = rest
        """Members beside the array that is paged."""
        self.fields = fields
        """Members of the result itself."""


def first_page(kept: bytes, more: Rest, handle: str, tool: str) -> bytes:
    """The result that is answered instead: page 1, the handle, and whatever is not paged."""
    book = Book(kept)
    page = _page(book, 1, book.page_size, handle, tool)
    if more.rest:
        page["rest"] = more.rest
    return _result(book, page, more.content, more.fields)


def later_page(kept: bytes, number: int, page_size: int | None, handle: str, tool: str) -> bytes:
    """The result of the `next_page` tool. ValueError says what is wrong with the number."""
    book = Book(kept)
    size = book.page_size
    if page_size is not None and not book.text:
        size = min(page_size, book.largest)
    pages = -(-book.count // size)
    if not 1 <= number <= pages:
        raise ValueError(f"There is no page {number}: pages are 1 to {pages}.")
    return _result(book, _page(book, number, size, handle, tool), [], {})


def _page(book: Book, number: int, size: int, handle: str, tool: str) -> dict[str, Any]:
    pages = -(-book.count // size)
    written = book.slice((number - 1) * size, size)
    data: Any
    if book.text:
        data = written.decode()
        showing = len(data)
    else:
        data = msgspec.Raw(b"[%b]" % written)
        showing = min(size, book.count - (number - 1) * size)
    more = f" Call {tool} with this handle for the others." if pages > 1 else ""
    unit = "characters" if book.text else "items"
    return {
        "data": data,
        "total": book.total,
        "showing": showing,
        "page": number,
        "page_size": size if not book.text else showing,
        "total_pages": pages,
        "handle": handle,
        "message": f"Page {number} of {pages}: {showing} of {book.total} {unit}.{more}",
    }


def _result(book: Book, page: dict[str, Any], content: list[Any], fields: dict[str, Any]) -> bytes:
    text = msgspec.json.encode(page)
    result: dict[str, Any] = {"content": [{"type": "text", "text": text.decode()}, *content]}
    if book.structured:
        result["structuredContent"] = msgspec.Raw(text)
    return msgspec.json.encode({**result, **(fields or {"resultType": "complete"})})

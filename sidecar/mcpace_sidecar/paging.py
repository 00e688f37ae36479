"""Large results in pages: nothing lost, nothing shown twice. Pure.

The array that a result holds (in its structured content, in a text that is JSON, or as many
texts), or else a text that is long, is cut into pages. Items are never decoded, so they keep
their spelling. The words of a page are those of the tutorial: data, total, showing, page,
page_size, total_pages, message.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mcpace_sidecar.treatment import NEXT_PAGE, PageRule

MAX_RESULT: Final = 8 * 1024 * 1024
"""Bytes of the largest result that is paged; a larger one passes whole."""
MAX_PAGE: Final = 100
"""Items of a page at most."""
KEPT: Final = 600.0
"""Seconds that the pages of a result can be read."""

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None


_block: Final = msgspec.json.Decoder(_Block)


class Book(msgspec.Struct):
    """Everything that later pages are made from: what is stored."""

    items: list[msgspec.Raw]
    """The array's items; of a text, its slices, each a JSON string."""
    page_size: int
    total: int
    """Items, or characters of a text."""
    text: bool
    structured: bool
    """Whether pages are given as structured content too."""
    max_bytes: int | None


_books: Final = msgspec.json.Decoder(Book)


def read_book(stored: bytes) -> Book:
    """A book as it was stored."""
    return _books.decode(stored)


def paginate(result: bytes, rule: PageRule) -> tuple[Book, dict[str, Any]] | None:
    """Return the book of a result that is too large, and what else is on its first page.

    None: the result is not too large, or holds nothing that could be cut, and passes whole. ValueError or
    RecursionError where it is no JSON in UTF-8.
    """
    if len(result) > MAX_RESULT:
        return None
    if not result.isascii():
        result.decode()  # what is passed on undecoded would be looked at by nobody
    fields = _fields.decode(result)
    blocks = _items.decode(fields["content"]) if "content" in fields else []
    too_long = rule.max_bytes is not None and len(result) > rule.max_bytes
    structured = fields.get("structuredContent")
    found = _array(bytes(structured)) if structured is not None else None
    texts = [
        (number, block.text) for number, block in enumerate(map(_decoded, blocks)) if block.text is not None
    ]
    shown: set[int] = set()
    """The blocks whose content the pages hold."""
    rest: dict[str, msgspec.Raw] = {}
    is_text = False
    if found is not None:
        items, rest = found
        shown = _repeated(texts, bytes(structured or b""), items)
    elif (cut := _array_in_texts(texts)) is not None:
        items, rest, shown = cut
    elif len(texts) > 1 and structured is None:
        items = [_raw(text) for _, text in texts]
        shown = {number for number, _ in texts}
    elif len(texts) == 1 and too_long and structured is None:
        is_text = True
        assert rule.max_bytes is not None
        items = [_raw(piece) for piece in _slices(texts[0][1], rule.max_bytes)]
        shown = {texts[0][0]}
    else:
        return None
    if not (too_long or (rule.items is not None and len(items) > rule.items and not is_text)):
        return None
    if len(items) < 2:
        return None
    size = 1 if is_text else min(rule.items or MAX_PAGE, len(items))
    total = len(texts[0][1]) if is_text else len(items)
    book = Book(items, size, total, is_text, structured is not None, rule.max_bytes)
    book.page_size = _fitting(book, size)
    more: dict[str, Any] = {
        "content": [block for number, block in enumerate(blocks) if number not in shown],
        "rest": rest,
        "fields": {k: v for k, v in fields.items() if k not in ("content", "structuredContent")},
    }
    return book, more


def first_page(book: Book, more: dict[str, Any], handle: str, tool: str) -> bytes:
    """The result that is answered instead: page 1, the handle, and whatever is not paged."""
    page = _page(book, 1, book.page_size, handle, tool)
    if more["rest"]:
        page["rest"] = more["rest"]
    return _result(book, page, more["content"], more["fields"])


def later_page(book: Book, number: int, page_size: int | None, handle: str, tool: str) -> bytes:
    """The result of the `next_page` tool. ValueError says what is wrong with the number."""
    size = book.page_size
    if page_size is not None and not book.text:
        size = _fitting(book, min(page_size, MAX_PAGE))
    pages = -(-len(book.items) // size)
    if not 1 <= number <= pages:
        raise ValueError(f"There is no page {number}: pages are 1 to {pages}.")
    return _result(book, _page(book, number, size, handle, tool), [], {"resultType": "complete"})


def _page(book: Book, number: int, size: int, handle: str, tool: str) -> dict[str, Any]:
    items = book.items[(number - 1) * size : number * size]
    pages = -(-len(book.items) // size)
    data: Any = items
    showing = len(items)
    if book.text:
        data = "".join(msgspec.json.decode(item) for item in items)
        showing = len(data)
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
    return msgspec.json.encode({**result, **fields})


def _fitting(book: Book, size: int) -> int:
    """The largest page size up to `size` whose every page keeps to the bytes; at least one item."""
    size = max(1, size)
    if book.max_bytes is None:
        return size
    ends = [0]
    for item in book.items:
        ends.append(ends[-1] + len(bytes(item)) + 1)
    while size > 1:
        starts = range(0, len(book.items), size)
        if all(ends[min(s + size, len(book.items))] - ends[s] <= book.max_bytes for s in starts):
            break
        size = size * 3 // 4
    return size


def _array(document: bytes) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw]] | None:
    """The items of the array that a JSON document is, or of the largest that it holds, and the rest."""
    try:
        if document.lstrip()[:1] == b"[":
            return _items.decode(document), {}
        fields = _fields.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    arrays = [name for name, value in fields.items() if bytes(value)[:1] == b"["]
    if not arrays:
        return None
    largest = max(arrays, key=lambda name: len(bytes(fields[name])))
    items = _items.decode(fields.pop(largest))
    return items, fields


def _array_in_texts(
    texts: list[tuple[int, str]],
) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw], set[int]] | None:
    if not texts:
        return None
    number, text = max(texts, key=lambda t: len(t[1]))
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    found = _array(text.encode())
    return (*found, {number}) if found is not None and len(found[0]) > 1 else None


def _repeated(texts: list[tuple[int, str]], structured: bytes, items: list[msgspec.Raw]) -> set[int]:
    """The texts that only say again what the structured content says: as a whole, or item by item."""
    each = [_spelled(bytes(item)) for item in items]
    if len(texts) == len(items) and all(
        one in (msgspec.json.encode(text), _spelled(text.encode()))
        for (_, text), one in zip(texts, each, strict=True)
    ):
        return {number for number, _ in texts}
    said = {_spelled(structured)}
    if structured.lstrip()[:1] == b"{":
        said |= {_spelled(bytes(value)) for value in _fields.decode(structured).values()}
    return {number for number, text in texts if _spelled(text.encode()) in said - {None}}


def _spelled(document: bytes) -> bytes | None:
    """JSON in one spelling, to be compared; None if it is none."""
    try:
        return msgspec.json.encode(msgspec.json.decode(document), order="sorted")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decoded(block: msgspec.Raw) -> _Block:
    try:
        decoded = _block.decode(block)
    except msgspec.DecodeError:
        return _Block()
    return decoded if decoded.type == "text" else _Block()


def _slices(text: str, max_bytes: int) -> list[str]:
    """The text in slices of at most so many bytes, at line ends where there are any."""
    slices = []
    start = 0
    while start < len(text):
        end = min(len(text), start + max_bytes)
        while len(text[start:end].encode()) > max_bytes and end > start + 1:
            end = start + max(1, (end - start) * 3 // 4)
        if end < len(text):
            line = text.rfind("\n", start + (end - start) // 2, end)
            end = line + 1 if line > 0 else end
        slices.append(text[start:end])
        start = end
    return slices


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))


NEXT_PAGE_TOOL: Final[dict[str, Any]] = {
    "name": NEXT_PAGE,
    "title": "Next page",
    "description": "Read another page of a large result. Results that were cut say so and hold the handle.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "handle": {"type": "string", "description": "The handle that the first page gave."},
            "page": {"type": "integer", "minimum": 1, "description": "The page to read, from 1."},
            "page_size": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_PAGE,
                "description": "Items of a page; as on the first page, if unset.",
            },
        },
        "required": ["handle", "page"],
    },
    "annotations": {"readOnlyHint": True, "openWorldHint": False},
}

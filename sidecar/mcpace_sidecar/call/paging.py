"""Large results in pages: nothing lost, nothing shown twice. Pure.

The array that a result holds (in its structured content, in a text that is JSON, or as many
texts), or else a text that is long, is cut into pages. Items are never decoded, so they keep
their spelling. Of a whole result a `book` is kept. What would take long to cut passes whole.
"""

from __future__ import annotations

from itertools import accumulate, islice
from operator import sub
from typing import Any, Final

import msgspec

from mcpace_sidecar.call.book import LINE, MAX_PAGE, WIDTH, Rest, bind
from mcpace_sidecar.call.policies import PageRule
from mcpace_sidecar.mcp.jsonrpc import BookHead, Nothing, NothingOf, PagedParts, TextBlock, Wrapped

MAX_RESULT: Final = 4 * 1024 * 1024
"""Bytes of the largest result that is paged; a larger one passes whole: cutting it would hold up all."""
MAX_ITEMS: Final = 100_000
"""Items of the longest array that is paged; a result with a longer one passes whole."""
MAX_BLOCKS: Final = 20_000
"""Blocks of content of a result that is paged."""
_BESIDE: Final = 64 * 1024
"""Bytes of members beside the one that is large, where many small ones would take long to read."""
_COMPARED: Final = 256 * 1024
"""Bytes up to which two documents are compared by their values, not only by their spelling."""
_COMPARED_ITEMS: Final = 1000

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_objects: Final = msgspec.json.Decoder(list[Nothing])
_skipped: Final = msgspec.json.Decoder(NothingOf)
_anything: Final = msgspec.json.Decoder(Any)
_text: Final = msgspec.json.Decoder(str)
_parts: Final = msgspec.json.Decoder(PagedParts)
_block: Final = msgspec.json.Decoder(TextBlock)
_wrapped: Final = msgspec.json.Decoder(Wrapped)
LARGEST: Final = MAX_RESULT + LINE + WIDTH * MAX_ITEMS
"""Bytes of the largest book."""


def paginate(result: bytes, rule: PageRule) -> tuple[bytes, Rest] | None:
    """Return the book of a result that is too large, as it is kept, and what else is on its first page.

    None: the result is not too large, or holds nothing that could be cut (soon), and passes whole.
    """
    if len(result) > MAX_RESULT:
        return None
    try:
        if not result.isascii():
            result.decode()  # what is passed on undecoded would be looked at by nobody
        return _paginate(result, rule)
    except (ValueError, RecursionError):
        return None


def _paginate(result: bytes, rule: PageRule) -> tuple[bytes, Rest] | None:
    parts = _parts.decode(result)
    content, structured = bytes(parts.content), bytes(parts.structured)
    if len(result) - len(content) - len(structured) > _BESIDE or not (_is_short(content) or not content):
        return None
    blocks = _items.decode(content) if content else []
    if len(blocks) > MAX_BLOCKS:
        return None
    texts = [(number, text) for number, text in enumerate(map(_text_of, blocks)) if text is not None]
    found = _array(structured) if structured else None
    shown: set[int] = set()
    """The blocks whose content the pages hold."""
    if found is not None:
        shown = _repeated(texts, structured, found[0])
    others = [text for text in texts if text[0] not in shown]
    longest = max(others, key=lambda text: len(text[1])) if others else (0, "")
    too_long = rule.max_bytes is not None and len(result) > rule.max_bytes
    mirrored = bool(structured and longest[1]) and _is_mirror(structured, longest[1])
    beside = bool(structured) and not mirrored
    """Whether there is structured content of its own, which stays as it is where a text is cut."""
    cut: _Cut | None = None
    if found is not None and len(longest[1]) <= max(len(structured), rule.max_bytes or len(result)):
        cut = _Cut(*found)
    elif not beside or len(longest[1]) > len(structured):
        cut = _cut_texts(others, longest, rule.max_bytes if too_long else None, alone=not structured)
        if cut is not None:
            shown |= cut.shown
    if cut is None:
        return None
    if not (too_long or (rule.items is not None and len(cut.items) > rule.items and cut.text is None)):
        return None
    if len(cut.items) < 2:
        return None
    paged_structure = bool(structured) and ((found is not None and not cut.shown) or mirrored)
    kept = cut.bind(rule, structured=paged_structure)
    skipped = ("content", "structuredContent") if paged_structure else ("content",)
    fields = {name: value for name, value in _fields.decode(result).items() if name not in skipped}
    unpaged = [block for number, block in enumerate(blocks) if number not in shown]
    return kept, Rest(unpaged, cut.rest, fields)


class _Cut:
    """What was found to be cut into pages."""

    __slots__ = ("items", "rest", "shown", "text", "total")

    def __init__(
        self, items: list[Any], rest: dict[str, msgspec.Raw], shown: set[int] | None = None,
        text: bytes | None = None, characters: int = 0,
    ) -> None:  # fmt: skip
        self.items: list[Any] = items
        """Items as they were written; of a text, where its slices end."""
        self.rest = rest
        self.shown: set[int] = shown or set()
        """The texts that hold it; none where structured content does."""
        self.text = text
        self.total = characters if text is not None else len(items)

    def bind(self, rule: PageRule, *, structured: bool) -> bytes:
        count = len(self.items)
        if self.text is not None:
            head = BookHead(count, 1, 1, self.total, text=True, structured=structured)
            return bind(head, self.items, self.text)
        ends = list(accumulate((len(item) + 1 for item in self.items), initial=-1))
        largest = _fitting(ends, min(MAX_PAGE, count), rule.max_bytes)
        head = BookHead(
            count, min(rule.items or MAX_PAGE, largest), largest, count, text=False, structured=structured
        )
        return bind(head, ends[1:], msgspec.json.encode(self.items)[1:-1])


def _cut_texts(
    texts: list[tuple[int, str]], longest: tuple[int, str], max_bytes: int | None, *, alone: bool
) -> _Cut | None:
    """An array in the longest text, many texts, or one that is longer than `max_bytes`."""
    number, text = longest
    if not texts:
        return None
    if text.lstrip()[:1] in ("[", "{"):
        found = _array(text.encode())
        if found is not None and len(found[0]) > 1:
            return _Cut(*found, {number})
    if alone and len(texts) > 1:
        return _Cut([_raw(text) for _, text in texts], {}, {number for number, _ in texts})
    if max_bytes is None:
        return None
    written = text.encode()
    return _Cut(_slices(written, max_bytes), {}, {number}, written, len(text))


def _fitting(ends: list[int], most: int, max_bytes: int | None) -> int:
    """The most items up to `most` of which any that follow one another keep to the bytes; at least one.

    `ends`: where each item ends, with its comma, from before the first on.
    """
    if max_bytes is None or most * max(map(sub, ends[1:], ends)) <= max_bytes:
        return most
    least = 1
    while least < most:
        size = (least + most + 1) // 2
        if max(map(sub, islice(ends, size, None), ends)) <= max_bytes:
            least = size
        else:
            most = size - 1
    return least


def _is_short(document: bytes) -> bool:
    """Whether an array surely holds no more items than are paged, judged without making them."""
    if document.count(b",") < MAX_ITEMS:
        return True
    if document.count(b"{") >= MAX_ITEMS:
        return False
    try:
        _objects.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _is_narrow(document: bytes) -> bool:
    """Whether an object surely has few members of its own, judged without making them."""
    if document.count(b":") < MAX_ITEMS:
        return True
    if len(document) - len(bytes(_wrapped.decode(document).result)) <= _BESIDE:
        return True
    start, end = document.find(b"["), document.rfind(b"]") + 1
    if start < 0 or start + len(document) - end > _BESIDE:
        return False
    try:
        _skipped.decode(document[start:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _array(document: bytes) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw]] | None:
    """The items of the array that a JSON document is, or of the largest that it holds, and the rest."""
    try:
        if document.lstrip()[:1] == b"[":
            return (_items.decode(document), {}) if _is_short(document) else None
        if not _is_narrow(document):
            return None
        fields = _fields.decode(document)
        arrays = [name for name, value in fields.items() if bytes(value)[:1] == b"["]
        if not arrays:
            return None
        largest = max(arrays, key=lambda name: len(bytes(fields[name])))
        if not _is_short(bytes(fields[largest])):
            return None
        return _items.decode(fields.pop(largest)), fields
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _repeated(texts: list[tuple[int, str]], structured: bytes, items: list[msgspec.Raw]) -> set[int]:
    """The texts that only say again what the structured content says: as a whole, or item by item."""
    if len(texts) == len(items) and all(
        _says(text, bytes(item), closely=len(items) <= _COMPARED_ITEMS)
        for (_, text), item in zip(texts, items, strict=True)
    ):
        return {number for number, _ in texts}
    said = _spellings(structured)
    if structured.lstrip()[:1] == b"{":
        for value in _fields.decode(structured).values():
            said |= _spellings(bytes(value))
    return {number for number, text in texts if said & _spellings(text.encode())}


def _says(text: str, item: bytes, *, closely: bool) -> bool:
    if text.encode() == item or (item[:1] == b'"' and msgspec.json.encode(text) == item):
        return True
    return closely and bool(_spellings(text.encode()) & _spellings(item))


def _spellings(document: bytes) -> set[bytes]:
    """A JSON document without spaces, and, unless it is long, in one spelling; nothing if it is none."""
    if document.count(b",") > 10 * MAX_ITEMS:
        return set()
    try:
        plain = msgspec.json.format(document, indent=-1)
        if len(document) > _COMPARED:
            return {plain}
        return {plain, msgspec.json.encode(_anything.decode(document), order="sorted")}
    except (ValueError, RecursionError):
        return set()


def _is_mirror(structured: bytes, text: str) -> bool:
    """Whether a member of the structured content is this text: what the SDKs make of a tool's string."""
    try:
        result = bytes(_wrapped.decode(structured).result)
        if result.startswith(b'"'):
            return _text.decode(result) == text
        if not _is_narrow(structured):
            return False
        members = map(bytes, _fields.decode(structured).values())
        return any(m.startswith(b'"') and _text.decode(m) == text for m in members)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _text_of(block: msgspec.Raw) -> str | None:
    try:
        decoded = _block.decode(block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded.text if decoded.type == "text" else None


def _slices(text: bytes, max_bytes: int) -> list[int]:
    """Where slices of at most so many bytes end: after a line if there is one, never in a character."""
    ends = []
    start = 0
    while start < len(text):
        end = min(len(text), start + max_bytes)
        if end < len(text):
            line = text.rfind(b"\n", start + (end - start) // 2, end)
            if line > 0:
                end = line + 1
            while end > start and text[end] & 0xC0 == 0x80:  # of UTF-8, within a character
                end -= 1
            if end == start:  # the character alone is longer
                end += 1
                while end < len(text) and text[end] & 0xC0 == 0x80:
                    end += 1
        ends.append(end)
        start = end
    return ends


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(text))

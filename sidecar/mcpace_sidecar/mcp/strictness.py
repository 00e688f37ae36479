"""What two JSON readers could understand differently is refused. Pure.

Names are compared exactly: with a blank at its end, or in another Unicode form, a name is another.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any, Final

import msgspec

from mcpace_sidecar.errors import McpaceError
from mcpace_sidecar.mcp.ids import is_id, written_id
from mcpace_sidecar.mcp.jsonrpc import (
    Envelope,
    Params,
)
from mcpace_sidecar.mcp.responses import INVALID_REQUEST, PARSE_ERROR

MAX_DEPTH: Final = 512
"""Levels of objects and arrays that a message has at most: well below where decoders give up."""


class MessageError(McpaceError):
    """A body that is no acceptable message; `code` is the JSON-RPC error code."""

    def __init__(self, code: int, words: str, message_id: bytes = b"null") -> None:
        super().__init__(words)
        self.code = code
        self.message_id = message_id


MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
STAND_IN: Final = "\ufffd"
_MAX_MENDED: Final = 1024 * 1024
_HALF: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
"""Half of a pair, in JSON without escaped backslashes."""


def without_halves(body: bytes) -> bytes | None:
    """The body, as long as before, with U+FFFD for halves of surrogate pairs; None if it holds none.

    They are valid JSON, and what a JavaScript client writes of a text cut within an emoji, but no
    UTF-8 (RFC 8259, section 8.2): readers refuse, replace or keep them.
    """
    if len(body) > _MAX_MENDED or b"\\u" not in body or b"\0" in body:
        return None
    plain = body.replace(b"\\\\", b"\0\0")  # no JSON holds a NUL
    mended = _HALF.sub(rb"\\ufffd", plain)
    return mended.replace(b"\0\0", b"\\\\") if mended != plain else None


def refuse_deep(body: bytes, raw_id: bytes) -> None:
    """Refuse valid JSON that has too many levels."""
    if not _crowded(body):
        return  # nearly every body
    if _deepest(body) > MAX_DEPTH:
        raise MessageError(PARSE_ERROR, TOO_DEEP, raw_id if is_id(raw_id) else b"null")


def _crowded(body: bytes) -> bool:
    """Whether a body holds more opening brackets than it may have levels."""
    for bracket in (b"[", b"{"):
        at, found = body.find(bracket), 0
        while at >= 0:
            found += 1
            if found > _FEW:
                return body.count(b"[") + body.count(b"{") > MAX_DEPTH
            at = body.find(bracket, at + 1)
    return False


_FEW: Final = 32
"""Brackets that are found faster one by one than counted: a search goes by words, a count by bytes."""
TOO_DEEP: Final = f"The body is nested too deeply: it may have {MAX_DEPTH} levels."


def _deepest(body: bytes) -> int:
    """The levels of valid JSON, of which only the quotes and brackets are looked at.

    Two quotes side by side change nothing for what stands beside them. So few strings are left.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    steps = body.translate(STEPS, _NO_STEPS).replace(b'""', b"")
    if b'"' not in steps:
        return max(accumulate(memoryview(steps).cast("b")))
    level = deepest = 0
    quoted = False
    for step in steps:
        if step == QUOTE:
            quoted = not quoted
        elif not quoted:
            level += 1 if step == 1 else -1
            deepest = max(deepest, level)
    return deepest


STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""A bracket as the step that it makes, as a signed byte."""
QUOTE: Final = ord('"')
_NO_STEPS: Final = bytes(byte for byte in range(256) if byte not in b'[{]}"')


def refuse_crowds(body: bytes, envelope: Envelope, wanted: Params | None) -> None:
    """Refuse so much beside what messages are known to hold that reading its names would take long."""
    known = [envelope.params, envelope.result, envelope.error]
    beside = len(body) - sum(map(len, known))
    if wanted is not None:
        known = [wanted.arguments, wanted.meta, wanted.inputs, wanted.state]
        within = len(envelope.params) - sum(map(len, known)) - len(wanted.name or wanted.uri or "")
        beside = max(beside, within)
    if beside > _CROWD:
        words = f"Beside params, arguments and their like, a message holds at most {_CROWD} bytes."
        raise MessageError(INVALID_REQUEST, words, written_id(body) or b"null")


_CROWD: Final = 64 * 1024
_CLOSELY: Final = 256 * 1024
"""Bytes of an object up to which names that are written with escapes are read."""


def look_closely(raw: bytes) -> None:
    """Refuse an object in which a name stands twice, though it is written with spaces or escapes."""
    compact = msgspec.json.format(raw, indent=-1)
    if plain(compact, MEMBERS.decode(compact)):
        return
    if len(raw) > _CLOSELY:
        words = "A name stands twice in one JSON object, or is written with escapes."
        raise MessageError(PARSE_ERROR, words, written_id(raw) or b"null")
    refuse_duplicates(raw)


def plain(raw: bytes, entries: dict[str, msgspec.Raw]) -> bool:
    """Whether a JSON object surely has no name twice, judged by length alone.

    An object written without spaces and escapes is exactly as long as its distinct
    entries; a repeated name, which decoding drops, makes it longer.
    """
    length = 1 + 4 * len(entries)  # braces, and quotes, colon and comma of each entry
    for key, value in entries.items():
        length += len(key) + len(value)
    return length == len(raw)


def refuse_lookalikes(entries: dict[str, msgspec.Raw], names: frozenset[str]) -> None:
    """Refuse a name that only its case tells from one of ours: Go's readers take it for that one."""
    for key in entries:
        if key not in names and key.casefold() in names:
            words = f"Write {key.casefold()!r} for {key!r}: some readers take one for the other."
            raise MessageError(INVALID_REQUEST, words)


def refuse_duplicates(body: bytes) -> None:
    """Refuse a name that stands twice in one object: readers differ about which one counts."""

    def pairs(items: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in items}) != len(items):
            raise MessageError(PARSE_ERROR, "A name stands twice in one JSON object.")

    try:
        json.loads(body, object_pairs_hook=pairs, parse_int=_unread, parse_float=_unread)
    except RecursionError:
        raise MessageError(PARSE_ERROR, TOO_DEEP) from None
    except ValueError as error:
        raise MessageError(PARSE_ERROR, f"The body is not valid JSON: {error}") from None


def _unread(number: str) -> None:
    """Numbers are not looked at: Python would refuse those of more than 4,300 digits."""

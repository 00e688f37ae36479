"""Ids of JSON-RPC messages: which are acceptable, which are the same, where a message bears it. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

import msgspec

ID_DIGITS: Final = 20
ID_TEXT: Final = 1000
_TEXT_ID: Final = rb'"(?:[^"\\]|\\.){0,1000}"'
_ID: Final = re.compile(rb"-?[0-9]{1,20}|" + _TEXT_ID, re.DOTALL)
"""An acceptable id: each has a value, which `id_value` knows."""
_ANY_ID: Final = rb"(-?[0-9]{1,2000}+(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?|null|%b)\s*+" % _TEXT_ID
_VERSION: Final = rb'"jsonrpc"\s*+:\s*+"2\.0"\s*+'
_FIRST_ID: Final = re.compile(
    rb'\s*+\{\s*+(?:%b,\s*+)?"id"\s*+:\s*+%b[,}]' % (_VERSION, _ANY_ID), re.DOTALL
)
_LAST_ID: Final = re.compile(rb',\s*+"id"\s*+:\s*+%b(?:,\s*+%b)?\}\s*+\Z' % (_ANY_ID, _VERSION), re.DOTALL)
_LAST: Final = 2048
"""Bytes at the end of a message in which its last members stand."""


def is_id(raw: bytes) -> bool:
    """Whether this is an acceptable id, as it was written."""
    return (len(raw) <= ID_DIGITS and raw.isdigit()) or _ID.fullmatch(raw) is not None


def written_id(body: bytes) -> bytes:
    """The id of a message by its first or last members alone; empty where they do not hold it."""
    return first_id(body) or last_id(body)


def first_id(body: bytes) -> bytes:
    """The id that a message begins with, though it may not be whole; empty where it does not."""
    found = _FIRST_ID.match(body)
    return found[1] if found is not None else b""


def last_id(body: bytes) -> bytes:
    """The id that a message ends with; empty where it does not."""
    found = _LAST_ID.search(body[-_LAST:])
    return found[1] if found is not None else b""


def same_id(one: bytes, other: bytes) -> bool:
    """Whether two ids are the same JSON value, however they are written; what has no value is no id."""
    value = id_value(one)
    return value is not None and value == id_value(other)


def id_value(message_id: bytes) -> str | int | Decimal | float | None:
    """What an id is: a text, or a number; None for anything else.

    A number is known exactly, and one beyond 2^53 as the double that JavaScript's servers make of it,
    or else a client would choose which of their answers are taken for another's.
    """
    try:
        return value_of(_any_id.decode(message_id))
    except (ValueError, ArithmeticError, RecursionError):
        return None


def value_of(decoded: Any) -> str | int | Decimal | float | None:
    """The same of one that is decoded; ArithmeticError."""
    if isinstance(decoded, int) and not isinstance(decoded, bool):  # apart: they are compared natively
        return decoded if -_EXACT <= decoded <= _EXACT else float(decoded)
    if isinstance(decoded, Decimal):
        return decoded if -_EXACT <= decoded <= _EXACT else float(decoded)
    return decoded if isinstance(decoded, str) else None


_EXACT: Final = 2**53
"""The largest number up to which every integer is a double (RFC 8259, section 6)."""
_any_id: Final = msgspec.json.Decoder(Any, float_hook=Decimal)

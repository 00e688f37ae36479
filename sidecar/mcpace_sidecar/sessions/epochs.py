"""Ids of what the server asks in a session begun again: they say which of its processes asks. Pure.

Each process counts its questions anew, so an answer to one that has ended would be taken for an answer to
the next one's. Those of the process that a session was begun in pass as they are.
Source: MCP 2025-11-25, basic (requests), basic/utilities/progress and cancellation.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

import msgspec

from mcpace_sidecar.mcp.ids import is_id
from mcpace_sidecar.mcp.strictness import MEMBERS

PROGRESS: Final = "notifications/progress"
_CANCELLED: Final = b'"notifications/cancelled"'
_MARK: Final = re.compile(r"mcpace-[0-9]+-[0-9a-f]{8}-")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def mark_of(epoch: int, inner: bytes) -> str:
    """What the ids of a process's questions begin with; empty in the one that the session was begun in.

    `inner`: the server's id of the session, which tells two of one epoch apart.
    """
    return f"mcpace-{epoch}-{zlib.crc32(inner):08x}-" if epoch else ""


def to_client(mark: str, data: bytes) -> bytes:
    """A request or notification of the server's, as its client is to see it."""
    try:
        members = MEMBERS.decode(data)
        if "method" not in members:
            return data
        params = MEMBERS.decode(members["params"]) if "params" in members else {}
        if "id" in members:
            members["id"] = _marked(mark, members["id"])
            meta = MEMBERS.decode(params["_meta"]) if "_meta" in params else {}
            if "progressToken" in meta:
                meta["progressToken"] = _marked(mark, meta["progressToken"])
                params["_meta"] = _raw(meta)
                members["params"] = _raw(params)
        elif bytes(members["method"]) == _CANCELLED and "requestId" in params:
            params["requestId"] = _marked(mark, params["requestId"])
            members["params"] = _raw(params)
        else:
            return data
        return msgspec.json.encode(members)
    except _UNREADABLE:
        return data


def to_server(mark: str, body: bytes, message_id: bytes | None) -> bytes | None:
    """A client's answer to a question, or what it tells of its progress, with the id of the one who asked.

    None: another process asked. `message_id`: of an answer.
    """
    if not mark and b"mcpace-" not in body:
        return body
    try:
        members = MEMBERS.decode(body)
        params = MEMBERS.decode(members["params"]) if message_id is None else members
        name = "progressToken" if message_id is None else "id"
        written = _unmarked(mark, params[name])
        if written is None:
            return None
        params[name] = written
        if message_id is None:
            members["params"] = _raw(params)
        return msgspec.json.encode(members)
    except (*_UNREADABLE, KeyError):
        return body  # the server says what is wrong with it


def _marked(mark: str, raw: msgspec.Raw) -> msgspec.Raw:
    return _raw(mark + bytes(raw).decode())


def _unmarked(mark: str, raw: msgspec.Raw) -> msgspec.Raw | None:
    """An id as it was written before it was marked; None: it was not, or otherwise."""
    value = msgspec.json.decode(raw)
    found = _MARK.match(value) if isinstance(value, str) else None
    if found is None:
        return None if mark else raw
    written = value[found.end() :].encode()
    if found[0] != mark or not is_id(written):  # so nothing else is written into the message
        return None
    msgspec.json.decode(written)
    return msgspec.Raw(written)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))

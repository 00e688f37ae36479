"""The era without handshakes: what its requests say over HTTP, and what a process is told of them. Pure.

Over HTTP headers mirror a request; no process ever sees them, and that they agree is judged here.
Source: MCP 2026-07-28, basic and basic/transports.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from mcpace_sidecar import __version__
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp import responses
from mcpace_sidecar.mcp.jsonrpc import Discovered, OfError, WithMeta
from mcpace_sidecar.mcp.methods import COUNTED
from mcpace_sidecar.mcp.responses import INVALID_PARAMS, INVALID_REQUEST, NO_METHOD, PARSE_ERROR
from mcpace_sidecar.mcp.strictness import MEMBERS
from mcpace_sidecar.stdio.asked import BAD_REQUEST, NOT_FOUND, OK, Asked

VERSION: Final = "2026-07-28"
MISMATCH: Final = -32020
"""The code of a request whose headers and body do not agree."""
NO_CAPABILITY: Final = -32021
"""The code of a request whose client offers too little."""
NO_VERSION: Final = -32022
"""The code of a version that the server does not speak."""
_STATUS: Final = {
    PARSE_ERROR: BAD_REQUEST,
    INVALID_REQUEST: BAD_REQUEST,
    INVALID_PARAMS: BAD_REQUEST,
    MISMATCH: BAD_REQUEST,
    NO_CAPABILITY: BAD_REQUEST,
    NO_VERSION: BAD_REQUEST,
    NO_METHOD: NOT_FOUND,
}
_META: Final = msgspec.json.encode(
    {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "mcpace", "version": __version__},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
)
"""What every request says, of a client of which no more is known."""
_OURS: Final = MEMBERS.decode(_META)
_INFO: Final = "io.modelcontextprotocol/serverInfo"
_SUBSCRIPTION: Final = "io.modelcontextprotocol/subscriptionId"
_KINDS: Final = ("tools", "prompts", "resources")
_EMPTY: Final = msgspec.Raw(b"{}")

_with_meta: Final = msgspec.json.Decoder(WithMeta)
_discovered: Final = msgspec.json.Decoder(Discovered)
_of_error: Final = msgspec.json.Decoder(OfError)
_text: Final = msgspec.json.Decoder(str)


def request(message_id: bytes, method: bytes, more: bytes = b"") -> bytes:
    """A request of our own. `more`: further params, each with a comma after it."""
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":{%b"_meta":%b}}' % (
        message_id,
        method,
        more,
        _META,
    )


def versions(result: bytes) -> list[str]:
    """The versions that the result of `server/discover` names; none where it is no such result."""
    try:
        return _discovered.decode(result).supported_versions
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def refusal(asked: Asked, params: bytes, version: bytes, about: bytes, spoken: list[str]) -> bytes:
    """The error with which a request is refused; empty where nothing is wrong with it.

    `version`, `about`: what its head says of its version and method; `spoken`: what the server speaks.
    """
    message_id, method = asked.id, asked.method
    try:
        read = _with_meta.decode(params) if params else WithMeta()
        meta = read.meta
        if meta is None or not meta.version or not meta.capabilities:
            words = "params._meta must say the protocol version and the client's capabilities."
            return responses.error_body(message_id, INVALID_PARAMS, words)
        if _spelled(meta.version) != version:
            words = "The header MCP-Protocol-Version and params._meta name different versions."
            return responses.error_body(message_id, MISMATCH, words)
        if about != method.encode():
            words = "The header Mcp-Method is not the body's method."
            return responses.error_body(message_id, MISMATCH, words)
        name = COUNTED.get(method)
        if name is not None and _value(asked.named) != _spelled(read.uri if name == "uri" else read.name):
            words = f"The header Mcp-Name is not the body's params.{name}."
            return responses.error_body(message_id, MISMATCH, words)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return responses.error_body(message_id, INVALID_PARAMS, "The params are none of this version.")
    if version.decode("latin-1") not in spoken:
        return unspoken(message_id, version, spoken)
    return b""


def unspoken(message_id: bytes, version: bytes, spoken: list[str]) -> bytes:
    """The error of a version that the server does not speak, upon which clients choose another."""
    data = {"supported": spoken, "requested": version.decode("latin-1")}
    return responses.error_body(message_id, NO_VERSION, "Unsupported protocol version", data)


def _spelled(raw: msgspec.Raw) -> bytes:
    return _text.decode(raw).encode() if raw else b""


def _value(header: bytes) -> bytes | None:
    """What a header says; None where it is no base64, though it says so."""
    if not (header.startswith(b"=?base64?") and header.endswith(b"?=")):
        return header
    payload = header[9:-2]
    try:
        value = base64.b64decode(payload, validate=True)
    except binascii.Error:
        return None
    return value if base64.b64encode(value) == payload else None


def head_of(error: bytes) -> ResponseHead:
    """The head of an answer with this error."""
    try:
        return _STATUS.get(_of_error.decode(error).code, OK)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return OK


def wants_log(params: bytes) -> bool:
    """Whether a request wants to hear what the server logs meanwhile."""
    try:
        meta = _with_meta.decode(params).meta if params else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return meta is not None and bool(meta.log_level)


# -- what clients of the handshake era ask for


def self_contained(params: bytes) -> bytes:
    """Their params, with what a request says where there was no handshake."""
    members = MEMBERS.decode(params) if params else {}
    meta = MEMBERS.decode(members.get("_meta", _EMPTY))
    members["_meta"] = msgspec.Raw(msgspec.json.encode(meta | _OURS))
    return msgspec.json.encode(members)


def greeting(discovered: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """What `initialize` would have been answered with, of what `server/discover` was."""
    meta = MEMBERS.decode(discovered.get("_meta", _EMPTY))
    said = {
        "protocolVersion": msgspec.Raw(b'"2025-11-25"'),
        "capabilities": discovered.get("capabilities", _EMPTY),
        "serverInfo": meta.get(_INFO, msgspec.Raw(b'{"name":"unknown","version":""}')),
    }
    if "instructions" in discovered:
        said["instructions"] = discovered["instructions"]
    return said


def announced(capabilities: dict[str, msgspec.Raw]) -> bytes:
    """Params of the subscription to changes of what a server lists; empty where it tells of none."""
    told = [
        kind
        for kind in _KINDS
        if kind in capabilities
        and MEMBERS.decode(capabilities[kind]).get("listChanged") == msgspec.Raw(b"true")
    ]
    wanted = {f"{kind}ListChanged": True for kind in told}
    return b'"notifications":%b,' % msgspec.json.encode(wanted) if wanted else b""


# -- subscriptions, which bear the id of the request that opened them


def subscription_of(params: bytes) -> bytes:
    """The id under which a notification was subscribed to; empty: it was not."""
    try:
        meta = _with_meta.decode(params).meta if params else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b""
    return bytes(meta.subscription) if meta is not None else b""


def with_subscription(document: bytes, message_id: bytes) -> bytes:
    """These params, or this result, under the id by which its client knows the subscription."""
    try:
        members = MEMBERS.decode(document)
        meta = MEMBERS.decode(members.get("_meta", _EMPTY))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return document
    if _SUBSCRIPTION not in meta:
        return document
    meta[_SUBSCRIPTION] = msgspec.Raw(message_id)
    members["_meta"] = msgspec.Raw(msgspec.json.encode(meta))
    return msgspec.json.encode(members)

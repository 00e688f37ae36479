"""JSON-RPC responses as bytes, and the codes of errors.

Source: JSON-RPC 2.0, sections 5 and 5.1.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
NO_METHOD: Final = -32601


def error_body(message_id: bytes, code: int, words: str, data: dict[str, Any] | None = None) -> bytes:
    """A JSON-RPC error response (JSON-RPC 2.0, section 5.1)."""
    error: dict[str, Any] = {"code": code, "message": words}
    if data:
        error["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (message_id, msgspec.json.encode(error))


def result_body(message_id: bytes, result: bytes) -> bytes:
    """A JSON-RPC result response with a kept result (JSON-RPC 2.0, section 5)."""
    return b"".join((b'{"jsonrpc":"2.0","id":', message_id, b',"result":', result, b"}"))


RESULT: Final = b'{"jsonrpc":"2.0","result":'


def result_end(message_id: bytes) -> bytes:
    """What ends such a response where its result comes first, after `RESULT`."""
    return b',"id":%b}' % message_id

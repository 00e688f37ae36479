"""What a server has answered to one call, as the load reads it: whether it failed, and without coding."""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

import brotli
import zstandard

from mcpace_sidecar.call.refusals import LIMITED
from mcpace_sidecar.http.head import ResponseHead
from mcpace_sidecar.mcp import answers

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of one answer, in any form."""
_LONGEST_NAME: Final = 1024
"""Characters of a tool's name; MCP advises 128, and a result is to hold it."""
ACCEPTED: Final = "gzip, br, zstd"
"""What clients accept that have every codec."""


def judged(head: ResponseHead, body: bytes) -> str:
    """How an answer says that its call failed: `limited`, `error`, `HTTP 503`; empty where it did not."""
    if head.status != 200:
        return f"HTTP {head.status}"
    if answers.succeeded(body):
        return "part failed" if b'"succeeded"' in body and _fell_short(body) else ""
    return "limited" if b"%d" % LIMITED.code in body else "error"


_COUNTED: Final = re.compile(rb'"total":(\d+),"succeeded":(\d+)')


def _fell_short(body: bytes) -> bool:
    """Whether not every call of a `parallel` succeeded."""
    counted = _COUNTED.search(body)
    return counted is not None and counted[1] != counted[2]


def decoded(head: ResponseHead, body: bytes) -> bytes | None:
    """An answer's body without its coding; None where it is none, or too much."""
    coding = head.get(b"content-encoding")
    try:
        if coding is None or coding == b"identity":
            return body
        if coding == b"gzip":
            return _bounded(zlib.decompressobj(31).decompress(body, LARGEST + 1))
        if coding == b"zstd":
            return _bounded(zstandard.ZstdDecompressor().stream_reader(body).read(LARGEST + 1))
        if coding == b"br":
            return _bounded(brotli.Decompressor().process(body, output_buffer_limit=LARGEST + 1))
    except (zlib.error, zstandard.ZstdError, brotli.error, MemoryError):
        return None
    return None


def _bounded(body: bytes) -> bytes | None:
    return body if len(body) <= LARGEST else None


def is_tool(tool: Any) -> bool:
    """Whether an entry of a server's list of tools is one that can be called."""
    name = tool.get("name") if isinstance(tool, dict) else None
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME

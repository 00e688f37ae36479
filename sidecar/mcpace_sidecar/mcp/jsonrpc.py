"""The parts of JSON-RPC messages that are decoded.

msgspec reads their annotations at run time, so this module is never compiled.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class CallParams(msgspec.Struct, gc=False):
    """The params of a counted method, as nearly every client writes them."""

    name: Any = None
    uri: Any = None
    arguments: msgspec.Raw = msgspec.Raw(b"")
    meta: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="_meta")


class CountedCall(msgspec.Struct, gc=False):
    """A request of a counted method, as nearly every client writes it."""

    jsonrpc: Literal["2.0"]
    method: Literal["tools/call", "prompts/get", "resources/read"]
    id: int | str
    params: CallParams


class Envelope(msgspec.Struct):
    """A request, notification or response, as far as it is judged."""

    jsonrpc: str
    method: str | None = None
    id: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class Params(msgspec.Struct):
    """What names the target of a counted method."""

    name: str | None = None
    uri: str | None = None
    state: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="requestState")
    arguments: msgspec.Raw = msgspec.Raw(b"")
    meta: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="_meta")
    inputs: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="inputResponses")


class Enclosed(msgspec.Struct):
    """The params alone."""

    params: msgspec.Raw = msgspec.Raw(b"")


class TraceMeta(msgspec.Struct):
    """The trace that a caller says its call belongs to (MCP's conventions for `_meta`)."""

    traceparent: str = ""


class TracedParams(msgspec.Struct):
    """The params, for their `_meta`."""

    meta: TraceMeta | None = msgspec.field(default=None, name="_meta")


class Traced(msgspec.Struct):
    """A message, for the `_meta` of its params."""

    params: TracedParams | None = None


class ResultFlags(msgspec.Struct, rename="camel"):
    """What a result says of itself."""

    is_error: bool = False
    result_type: str = "complete"
    request_state: msgspec.Raw = msgspec.Raw(b"")


class Response(msgspec.Struct):
    """A response, or a message of the server's own."""

    id: msgspec.Raw = msgspec.Raw(b"")
    method: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class Negotiated(msgspec.Struct, rename="camel"):
    """What `initialize` is answered with, as far as a session depends on it."""

    protocol_version: str = ""


class Told(msgspec.Struct):
    """What a session tells its server: a log level, or what it subscribes to."""

    level: msgspec.Raw = msgspec.Raw(b"")
    uri: msgspec.Raw = msgspec.Raw(b"")


class CacheHints(msgspec.Struct, rename="camel"):
    """How long a result may be kept, and for whom (MCP 2026-07-28, caching)."""

    ttl_ms: float | None = None
    cache_scope: str | None = None


def batch_of(length: int) -> type[msgspec.Struct]:
    """An array of which this many members are read, and the rest is passed over."""
    members = [(f"member{number}", msgspec.Raw, msgspec.Raw(b"")) for number in range(length)]
    return msgspec.defstruct("Batch", members, array_like=True)


class PagedParts(msgspec.Struct):
    """The members of a tool's result that may be paged."""

    content: msgspec.Raw = msgspec.Raw(b"")
    structured: msgspec.Raw = msgspec.field(default=msgspec.Raw(b""), name="structuredContent")


class TextBlock(msgspec.Struct):
    """A block of content, as far as it is text."""

    type: str = ""
    text: str | None = None


class Wrapped(msgspec.Struct):
    """What the SDKs make structured content of, where a tool returns no object."""

    result: msgspec.Raw = msgspec.Raw(b"")


class Nothing(msgspec.Struct, gc=False):
    """An object of which nothing is wanted: not even that it takes room."""


class NothingOf(msgspec.Struct, array_like=True, gc=False):
    """An array of which nothing is wanted."""


class BookHead(msgspec.Struct, array_like=True):
    """The facts of a book of pages, as they are kept."""

    count: int
    page_size: int
    largest: int
    total: int
    text: bool
    structured: bool


class NextPage(msgspec.Struct):
    """The arguments of the tool that reads pages."""

    handle: str
    page: int
    page_size: int | None = None


class NextPageParams(msgspec.Struct):
    """Its params."""

    arguments: NextPage


class Posted(msgspec.Struct, gc=False):
    """A message for a server, as far as it is routed."""

    method: str | None = None
    id: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")


class Said(msgspec.Struct, gc=False):
    """A message of a server's, as far as it is routed."""

    method: str | None = None
    id: msgspec.Raw = msgspec.Raw(b"")
    params: msgspec.Raw = msgspec.Raw(b"")
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class OfProgress(msgspec.Struct, rename="camel", gc=False):
    """The params of what tells of progress, or of a cancellation: whose."""

    progress_token: msgspec.Raw = msgspec.Raw(b"")
    request_id: msgspec.Raw = msgspec.Raw(b"")


class WithToken(msgspec.Struct, gc=False):
    """The params of a request that may want to hear of its progress."""

    meta: OfProgress | None = msgspec.field(default=None, name="_meta")


class SelfContained(msgspec.Struct, gc=False):
    """What `_meta` holds where there is no handshake (MCP 2026-07-28, basic)."""

    version: msgspec.Raw = msgspec.field(
        default=msgspec.Raw(b""), name="io.modelcontextprotocol/protocolVersion"
    )
    capabilities: msgspec.Raw = msgspec.field(
        default=msgspec.Raw(b""), name="io.modelcontextprotocol/clientCapabilities"
    )
    log_level: msgspec.Raw = msgspec.field(
        default=msgspec.Raw(b""), name="io.modelcontextprotocol/logLevel"
    )
    subscription: msgspec.Raw = msgspec.field(
        default=msgspec.Raw(b""), name="io.modelcontextprotocol/subscriptionId"
    )


class WithMeta(msgspec.Struct, gc=False):
    """The params or result of such a message: its `_meta`, and what its headers mirror."""

    meta: SelfContained | None = msgspec.field(default=None, name="_meta")
    name: msgspec.Raw = msgspec.Raw(b"")
    uri: msgspec.Raw = msgspec.Raw(b"")


class Discovered(msgspec.Struct, rename="camel", gc=False):
    """What `server/discover` is answered with, as far as it decides the era."""

    supported_versions: list[str] = msgspec.field(default_factory=list)


class OfError(msgspec.Struct, gc=False):
    """A JSON-RPC error, as far as HTTP says the same by a status."""

    code: int = 0

"""`upstream`, `egress`, `concurrency`, `responses`, `monitoring`: how calls travel, and who sees it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import (
    AS_SET,
    BY_NAME,
    URL_PATTERN,
    URL_WORDS,
    McpName,
    Model,
    Name,
    spelled,
)
from mcpace_sidecar.contract.quantity import Duration, Size
from mcpace_sidecar.contract.rules import Broken, broken, rule


class Upstream(Model):
    """The pool of kept connections to the server."""

    max_connections: int = Field(
        default=1024, ge=1, le=10_000, description="Connections for calls; open streams are counted apart."
    )
    idle_timeout: Duration = Field(
        default="4s",
        description="How long a connection is kept idle: less than the server keeps it, which is 5 s of"
        " uvicorn and Node.js; a `Keep-Alive: timeout` of the server's shortens it.",
    )
    connect_timeout: Duration = Field(
        default="5s", description="How long the server may take to accept a connection."
    )
    host: Literal["rewrite", "preserve"] = Field(
        default="rewrite",
        description="The Host that the server sees: its own address, which its guard against DNS rebinding"
        " accepts, or the one that the client wrote. X-Forwarded-Host says the latter in any case.",
    )
    timeout: Duration = Field(
        default="5m",
        description="The longest silence of the server while a call waits for it; open streams may be"
        " silent, and so may calls while the server waits for an answer of the client's.",
    )


class Door(Model):
    """One outgoing door: plain HTTP on the pod's loopback, pooled TLS to the outside."""

    name: Name = Field(description="What metrics and the log call it.")
    url: str = spelled(
        URL_PATTERN,
        URL_WORDS,
        max_length=512,
        description="Where the door leads; a path is put before that of each call.",
    )
    port: int = Field(ge=1, le=65535, description="The door's port on the loopback.")
    max_connections: int = Field(
        default=100, ge=1, le=10_000, description="Connections to the outside, per replica."
    )
    keep_alive: int = Field(default=20, ge=0, le=10_000, description="Idle connections that are kept.")
    idle_timeout: Duration = Field(
        default="30s",
        description="How long a connection is kept idle; `Keep-Alive: timeout` of an answer shortens it.",
    )
    connect_timeout: Duration = Field(
        default="5s", description="How long the other side may take to accept a connection."
    )
    timeout: Duration = Field(default="30s", description="The longest silence of the other side.")


class CircuitBreaker(Model):
    """Stops asking a server, or one of its tools, that keeps failing."""

    failures: int = Field(default=5, ge=1, le=1000, description="Failures in a row that open it.")
    open_for: Duration = Field(default="30s", description="How long until one trial call is let through.")


class Concurrency(Model):
    """How many calls the server works on at once; without this block, as many as come."""

    max_in_flight: int = Field(
        default=64, ge=1, le=10_000, description="Calls that the server works on at once, per replica."
    )
    max_queued: int = Field(default=256, ge=0, le=100_000, description="Calls that wait for a free slot.")
    circuit_breaker: CircuitBreaker | None = None
    parallel_tool: bool = Field(
        default=False, description="Offer the tool `parallel`: up to 32 calls in one, run concurrently."
    )
    repeatable_tools: tuple[McpName, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra=AS_SET,
        description="Tools whose calls are sent again when the server ended while it ran them: those that"
        " do no harm by running twice.",
    )


class Traces(Model):
    """OpenTelemetry spans of tool calls, sent by OTLP over HTTP."""

    endpoint: str = spelled(
        URL_PATTERN,
        URL_WORDS,
        min_length=1,
        max_length=256,
        description="The collector, without /v1/traces; for example http://otel-collector:4318.",
    )
    sample_ratio: float = Field(
        default=1.0, ge=0, le=1, description="Of the traces that begin here, the part that is sampled."
    )


class Monitoring(Model):
    """What can be looked at."""

    access_log: bool = Field(
        default=False,
        description="A line of JSON on standard output for each tool call: no arguments, no credentials.",
    )
    traces: Traces | None = None


class PagedTool(Model):
    """A tool whose large results are given page by page."""

    name: McpName = Field(description="The tool, as the server lists it.")
    items: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Items of a page, when the result holds an array of more."
    )
    bytes: Size | None = Field(default=None, description="Bytes of a page, when the result is larger.")

    @rule("has(self.items) || has(self.bytes)", "page needs items, bytes, or both")
    def _has_a_size(self) -> Broken | None:
        return broken(self.items is None and self.bytes is None)


class Paging(Model):
    """Large results given page by page, nothing lost."""

    tools: tuple[PagedTool, ...] = Field(
        min_length=1,
        max_length=128,
        json_schema_extra=BY_NAME,
        description="Only these lose their outputSchema.",
    )


class Responses(Model):
    """What becomes of large answers."""

    heartbeat: Duration = Field(
        default="15s",
        description="How often a silent event stream says that it is open, by a comment; 0s: never.",
    )
    compress_over: Size = Field(default="10Ki", description="Answers of more bytes are compressed.")
    page: Paging | None = None

"""`cache`: which results may be answered again, to whom, and for how long."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import AS_SET, BY_NAME, HeaderName, McpName, Model
from mcpace_sidecar.contract.quantity import Duration, Size
from mcpace_sidecar.contract.rules import Broken, broken, rule


class ResultKey(Model):
    """The arguments that tell one result of a tool from another; without this, all of them do."""

    arguments: tuple[McpName, ...] = Field(
        min_length=1,
        max_length=16,
        json_schema_extra=AS_SET,
        description="All arguments that an answer depends on: calls that differ in others alone get one"
        " result. One that is missing is a value of its own.",
    )
    ignore_case: bool = Field(
        default=False,
        description="Whether texts are one that differ in nothing but the case of letters and white space"
        " around them.",
    )


class CachedTool(Model):
    """A tool whose results may be answered again for a while, or that makes others' results old."""

    name: McpName = Field(description="The tool, as the server lists it.")
    ttl: Duration | None = Field(default=None, description="How long a result is fresh.")
    scope: Literal["shared", "client"] = Field(
        default="client", description="Whether a result may be answered to other clients too."
    )
    key: ResultKey | None = None
    stale_while_revalidate: Duration | None = Field(
        default=None,
        description="How long after its ttl a result is still answered while a new one is fetched.",
    )
    stale_if_error: Duration | None = Field(
        default=None, description="How long after its ttl a result stands in for a server that fails."
    )
    invalidates: tuple[McpName, ...] = Field(
        default=(), max_length=32, description="Tools whose results this tool makes old."
    )

    @rule(
        "has(self.ttl) || (has(self.invalidates) && size(self.invalidates) > 0)",
        "write a ttl, invalidates, or both",
    )
    def _is_useful(self) -> Broken | None:
        return broken(self.ttl is None and not self.invalidates)

    @rule(
        "has(self.ttl) || !(has(self.staleWhileRevalidate) || has(self.staleIfError) || has(self.scope)"
        " || has(self.key))",
        "staleWhileRevalidate, staleIfError, scope and key need a ttl: without one nothing is kept",
    )
    def _keeps_nothing_without_ttl(self) -> Broken | None:
        needy = {"stale_while_revalidate", "stale_if_error", "scope", "key"}
        return broken(self.ttl is None and bool(self.model_fields_set & needy))


class Lists(Model):
    """Lists of servers that give no `ttlMs` of their own, as all before 2026-07-28."""

    ttl: Duration = Field(description="How long a list is fresh, where the server does not say.")
    scope: Literal["shared", "client"] = Field(
        default="client", description="Whether the server lists the same to every client."
    )


class Cache(Model):
    """Results kept in memory, and in the Redis that all replicas share."""

    max_bytes: Size = Field(default="64Mi", description="Memory for results, per replica.")
    max_entries: int = Field(
        default=100_000, ge=1, le=10_000_000, description="Results in memory, per replica."
    )
    vary_on: tuple[HeaderName, ...] = Field(
        default=(), max_length=16, description="Further request headers that tell users apart."
    )
    tools: tuple[CachedTool, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra=BY_NAME,
        description="What is cached, tool by tool, and what makes it stale.",
    )
    lists: Lists | None = None

"""`cache`: which results may be answered again, to whom, and for how long."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mcpace_sidecar.contract.config.base import BY_NAME, HeaderName, McpName, Model, rule, unique
from mcpace_sidecar.contract.quantity import Duration, Size

TTL_WORDS = "staleWhileRevalidate, staleIfError and scope need a ttl: without one nothing is kept"
USE_WORDS = "write a ttl, invalidates, or both"


class CachedTool(Model):
    """A tool whose results may be answered again for a while, or that makes others' results old."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule("has(self.ttl) || has(self.invalidates)", USE_WORDS),
                rule(
                    "has(self.ttl) || !(has(self.staleWhileRevalidate) || has(self.staleIfError)"
                    " || has(self.scope))",
                    TTL_WORDS,
                ),
            ]
        }
    )

    name: McpName = Field(description="The tool, as the server lists it.")
    ttl: Duration | None = Field(default=None, description="How long a result is fresh.")
    scope: Literal["shared", "client"] = Field(
        default="client", description="Whether a result may be answered to other clients too."
    )
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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ttl is None and not self.invalidates:
            raise ValueError(USE_WORDS)
        if self.ttl is None and self.model_fields_set & {
            "stale_while_revalidate",
            "stale_if_error",
            "scope",
        }:
            raise ValueError(TTL_WORDS)
        return self


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

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        unique("tools", (tool.name for tool in self.tools))
        return self

"""The configuration of one server's sidecar: the one schema of the project.

`McpServerSpec` extends `SidecarConfig`, the CRD is generated from it, and the file
that a running sidecar reads is that very subtree, validated by these classes.
Defaults live here and not in the CRD, so that a better default reaches servers
that were stored before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from mcpace_sidecar.contract.config.base import (
    BY_NAME,
    HealthPath,
    MisplacedError,
    Model,
    UrlPath,
    rule,
    unique,
)
from mcpace_sidecar.contract.config.cache import Cache
from mcpace_sidecar.contract.config.clients import Clients, PublicUrl
from mcpace_sidecar.contract.config.document import parse, parse_strictly, read_documents, read_yaml
from mcpace_sidecar.contract.config.rate_limits import DEFAULT_TIERS, RateLimits
from mcpace_sidecar.contract.config.traffic import Concurrency, Door, Monitoring, Responses, Upstream
from mcpace_sidecar.contract.nearest import Names
from mcpace_sidecar.contract.quantity import Size

__all__ = [
    "SIDECAR_RULES",
    "Model",
    "SidecarConfig",
    "load",
    "parse",
    "parse_strictly",
    "read_documents",
    "read_yaml",
    "rule",
]

API_KEY_TIER_WORDS = "the tier of apiKeys must be the name of one of the rateLimits tiers"

SIDECAR_RULES = (
    rule(
        "!has(self.clients) || !has(self.clients.apiKeys) || self.clients.apiKeys.all(k,"
        " has(self.rateLimits) && has(self.rateLimits.tiers)"
        " ? self.rateLimits.tiers.exists(t, t.name == k.tier)"
        f" : k.tier in {[*DEFAULT_TIERS]})",
        API_KEY_TIER_WORDS,
    ),
)
"""The rules that span parts of the configuration."""


class SidecarConfig(Model):
    """The subtree of a manifest that a sidecar reads."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [*SIDECAR_RULES]})

    transport: Literal["streamable-http", "sse"] = Field(
        default="streamable-http",
        description="How the server speaks MCP; `sse` is the pair of endpoints of 2024-11-05.",
    )
    path: UrlPath | None = Field(
        default=None,
        description="The one path that is judged and forwarded: /mcp, or of `sse` its GET endpoint, /sse.",
    )
    pass_paths: tuple[UrlPath, ...] = Field(
        default=(), max_length=32, description="Other paths of the server that may be reached."
    )
    health_path: HealthPath = Field(
        default="/healthz",
        description="Where balancers may ask the data port, without a credential, whether calls are"
        " answered; empty: nowhere. A path of the server's own stays the server's.",
    )
    public_url: PublicUrl | None = Field(
        default=None,
        alias="publicURL",
        description="Where clients reach the MCP endpoint, such as https://mcp.example/weather/mcp: with"
        " clients.jwt, the resource that a 401 tells them to get a token for.",
    )
    max_request_bytes: Size = Field(default="4Mi", description="The largest request body.")
    rate_limits: RateLimits | None = None
    clients: Clients = Clients()
    cache: Cache | None = None
    upstream: Upstream = Upstream()
    egress: tuple[Door, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=BY_NAME,
        description="Doors for the server's own calls.",
    )
    concurrency: Concurrency | None = None
    responses: Responses = Responses()
    monitoring: Monitoring = Monitoring()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.rate_limits.tier_names if self.rate_limits else DEFAULT_TIERS
        for number, keys in enumerate(self.clients.api_keys):
            if keys.tier not in names:
                words = f"{API_KEY_TIER_WORDS}: {', '.join(names)}{Names(names).meant(keys.tier)}"
                raise MisplacedError(("clients", "apiKeys", number, "tier"), words)
        unique("egress", (door.name for door in self.egress))
        unique("egress", (door.port for door in self.egress), key="port")
        return self

    @property
    def endpoint(self) -> str:
        """The path, given or by default."""
        return self.path or ("/sse" if self.transport == "sse" else "/mcp")


def load(path: Path) -> tuple[SidecarConfig, tuple[str, ...]]:
    """Read and validate a configuration file (YAML, and so JSON too); see `parse`."""
    return parse(SidecarConfig, read_yaml(path) or {})

"""The configuration of one server's sidecar: the one schema of the project.

`McpServerSpec` extends `SidecarConfig`, the CRD is generated from it, and the file
that a running sidecar reads is that very subtree, validated by these classes.
Defaults live here and not in the CRD, so that a better default reaches servers
that were stored before it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import BY_NAME, HealthPath, Model, UrlPath
from mcpace_sidecar.contract.config.cache import Cache
from mcpace_sidecar.contract.config.clients import Clients, PublicUrl
from mcpace_sidecar.contract.config.document import (
    parse,
    parse_strictly,
    read_documents,
    read_located,
    read_yaml,
)
from mcpace_sidecar.contract.config.rate_limits import DEFAULT_TIERS, RateLimits, among
from mcpace_sidecar.contract.config.sessions import Sessions
from mcpace_sidecar.contract.config.stdio import Stdio
from mcpace_sidecar.contract.config.traffic import Concurrency, Door, Monitoring, Responses, Upstream
from mcpace_sidecar.contract.quantity import Duration, Size
from mcpace_sidecar.contract.rules import Broken, broken, rule

__all__ = [
    "Model",
    "SidecarConfig",
    "load",
    "parse",
    "parse_strictly",
    "read_documents",
    "read_located",
    "read_yaml",
]


class SidecarConfig(Model):
    """The subtree of a manifest that a sidecar reads."""

    transport: Literal["streamable-http", "sse", "stdio"] = Field(
        default="streamable-http",
        description="How the server speaks MCP; `sse` is the pair of endpoints of 2024-11-05, `stdio` a"
        " process's standard input and output.",
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
    drain_timeout: Duration = Field(
        default="60s",
        description="How long calls in flight may take to end when a replica ends; whatever has not ended"
        " by then is cut, and told so. The pods' terminationGracePeriodSeconds follows it.",
    )
    rate_limits: RateLimits | None = None
    clients: Clients = Clients()
    cache: Cache | None = None
    sessions: Sessions = Sessions()
    upstream: Upstream = Upstream()
    stdio: Stdio = Stdio()
    egress: tuple[Door, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=BY_NAME,
        description="Doors for the server's own calls.",
    )
    concurrency: Concurrency | None = None
    responses: Responses = Responses()
    monitoring: Monitoring = Monitoring()

    @rule(
        "!has(self.clients) || !has(self.clients.apiKeys) || self.clients.apiKeys.all(k,"
        " has(self.rateLimits) && has(self.rateLimits.tiers)"
        " ? self.rateLimits.tiers.exists(t, t.name == k.tier)"
        f" : k.tier in {[*DEFAULT_TIERS]})",
        "the tier of apiKeys must be the name of one of the rateLimits tiers",
    )
    def _keys_have_a_tier(self) -> Broken | None:
        names = self.rate_limits.tier_names if self.rate_limits else DEFAULT_TIERS
        for number, keys in enumerate(self.clients.api_keys):
            if keys.tier not in names:
                return Broken(("clients", "apiKeys", number, "tier"), among(names, keys.tier))
        return None

    @rule(
        "!has(self.egress) || self.egress.all(d, self.egress.exists_one(e, e.port == d.port))",
        "write each port of egress once",
    )
    def _doors_have_ports_of_their_own(self) -> Broken | None:
        ports = [door.port for door in self.egress]
        for number, port in enumerate(ports):
            if port in ports[:number]:
                return Broken(("egress", number, "port"), f": {port} stands twice")
        return None

    @rule(
        "!has(self.stdio) || (has(self.transport) && self.transport == 'stdio')",
        "write `transport: stdio`, which `stdio` is about",
    )
    def _processes_speak_over_pipes(self) -> Broken | None:
        return broken("stdio" in self.model_fields_set and self.transport != "stdio", "transport")

    @property
    def endpoint(self) -> str:
        """The path, given or by default."""
        return self.path or ("/sse" if self.transport == "sse" else "/mcp")


def load(path: Path) -> tuple[SidecarConfig, tuple[str, ...]]:
    """Read and validate a configuration file (YAML, and so JSON too); see `parse`."""
    return parse(SidecarConfig, read_yaml(path) or {})

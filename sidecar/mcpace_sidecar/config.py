"""The configuration of one server's sidecar: the one schema of the project.

`McpServerSpec` extends `SidecarConfig`, the CRD is generated from it, and the file
that a running sidecar reads is that very subtree, validated by these classes.
Defaults live here and not in the CRD, so that a better default reaches servers
that were stored before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from mcpace_sidecar.errors import ConfigError
from mcpace_sidecar.quantity import Duration, Size

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A name of ours (a tier): a DNS label."""

ToolName = Annotated[str, Field(min_length=1, max_length=128)]
"""A tool's name, as the server lists it."""

UrlPath = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/[A-Za-z0-9._~/-]*$")]
"""An absolute path, without query, fragment or escapes."""

HeaderValue = Annotated[str, Field(min_length=1, max_length=256)]

DEFAULT_TIERS = ("free", "pro", "enterprise")


def rule(cel: str, message: str) -> JsonValue:
    """One CEL rule of the CRD; the model's own validator raises the same words."""
    return {"rule": cel, "message": message}


class Model(BaseModel):
    """Base of every part of a manifest: frozen, camelCase outside, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


class Tier(Model):
    """What clients of one plan may call."""

    name: Name
    requests_per_minute: int = Field(
        ge=1, le=1_000_000, description="Size and refill of the token bucket, per client."
    )
    requests_per_day: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="Quota per client and UTC calendar day."
    )


class ToolLimit(Model):
    """A limit or a price of one tool."""

    name: ToolName
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000, description="The tool's own token bucket; counts calls."
    )
    cost: int = Field(
        default=1,
        ge=1,
        le=1_000_000,
        description="What a call takes from its tier's minute and day.",
    )
    per: Literal["client", "server"] = Field(
        default="client", description="One bucket for each client, or one that all share."
    )


DEFAULT_TIER_WORDS = "defaultTier must be the name of one of the tiers"
COST_WORDS = "a tool's cost must not exceed the requestsPerMinute of any tier: it could never be called"


class RateLimits(Model):
    """Token buckets per minute and quotas per day. `rateLimits: {}` gives three tiers."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.defaultTier) || (has(self.tiers)"
                    " ? self.tiers.exists(t, t.name == self.defaultTier)"
                    " : self.defaultTier in ['free', 'pro', 'enterprise'])",
                    DEFAULT_TIER_WORDS,
                ),
                rule(
                    "!has(self.tools) || self.tools.all(tool, !has(tool.cost) || (has(self.tiers)"
                    " ? self.tiers.all(t, t.requestsPerMinute >= tool.cost) : tool.cost <= 10))",
                    COST_WORDS,
                ),
            ]
        }
    )

    tiers: tuple[Tier, ...] = Field(
        default=(
            Tier(name="free", requests_per_minute=10, requests_per_day=100),
            Tier(name="pro", requests_per_minute=60, requests_per_day=10_000),
            Tier(name="enterprise", requests_per_minute=300, requests_per_day=1_000_000),
        ),
        min_length=1,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    default_tier: Name | None = Field(
        default=None, description="The tier of clients without one; the first listed, if unset."
    )
    tools: tuple[ToolLimit, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    when_redis_is_down: Literal["local", "open", "closed"] = Field(
        default="local",
        description="Without Redis: each replica its share of the limits, no limits, or no calls.",
    )
    count_cache_hits: bool = Field(default=True, description="Whether a cached answer is counted.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique("tiers", (tier.name for tier in self.tiers))
        _unique("tools", (tool.name for tool in self.tools))
        if self.default_tier is not None and self.default_tier not in self.tier_names:
            raise ValueError(DEFAULT_TIER_WORDS)
        smallest = min(tier.requests_per_minute for tier in self.tiers)
        if any(tool.cost > smallest for tool in self.tools):
            raise ValueError(COST_WORDS)
        return self

    @property
    def tier_names(self) -> tuple[str, ...]:
        """The names of the tiers, in order."""
        return tuple(tier.name for tier in self.tiers)


class SecretRef(Model):
    """A Secret in the server's namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


class ApiKeys(Model):
    """Keys of one tier: the Secret's entries are client name -> key."""

    tier: Name
    secret_ref: SecretRef


class Clients(Model):
    """Who is calling, and in which tier."""

    api_keys: tuple[ApiKeys, ...] = Field(default=(), max_length=32)
    anonymous: Literal["allow", "deny"] = Field(
        default="allow", description="Whether a caller without a key of ours may call at all."
    )
    forward_credential: bool = Field(
        default=False, description="Whether a key of ours is passed on to the server."
    )
    allowed_origins: tuple[HeaderValue, ...] = Field(
        default=(),
        max_length=32,
        description="Browser origins that may call, such as https://a.example.",
    )


class CachedTool(Model):
    """A tool whose results may be answered again for a while."""

    name: ToolName
    ttl: Duration
    scope: Literal["shared", "client"] = Field(
        default="client", description="Whether a result may be answered to other clients too."
    )


class Cache(Model):
    """Results kept in memory, and in the Redis that all replicas share."""

    max_bytes: Size = Field(default="64Mi", description="Memory for results, per replica.")
    vary_on: tuple[HeaderValue, ...] = Field(
        default=(), max_length=16, description="Further request headers that tell users apart."
    )
    tools: tuple[CachedTool, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique("tools", (tool.name for tool in self.tools))
        return self


class Upstream(Model):
    """The pool of kept connections to the server."""

    max_connections: int = Field(default=100, ge=1, le=10_000)
    idle_timeout: Duration = "30s"
    connect_timeout: Duration = "5s"
    timeout: Duration = Field(
        default="30s",
        description="The longest silence of the server while a call waits; event streams may be silent.",
    )


API_KEY_TIER_WORDS = "the tier of apiKeys must be the name of one of the rateLimits tiers"


SIDECAR_RULES = (
    rule(
        "!has(self.clients) || !has(self.clients.apiKeys) || self.clients.apiKeys.all(k,"
        " has(self.rateLimits) && has(self.rateLimits.tiers)"
        " ? self.rateLimits.tiers.exists(t, t.name == k.tier)"
        " : k.tier in ['free', 'pro', 'enterprise'])",
        API_KEY_TIER_WORDS,
    ),
)
"""The rules that span parts of the configuration."""


class SidecarConfig(Model):
    """The subtree of a manifest that a sidecar reads."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [*SIDECAR_RULES]})

    path: UrlPath = Field(default="/mcp", description="The one path that is judged and forwarded.")
    pass_paths: tuple[UrlPath, ...] = Field(
        default=(), max_length=32, description="Other paths of the server that may be reached."
    )
    max_request_bytes: Size = Field(default="4Mi", description="The largest request body.")
    rate_limits: RateLimits | None = None
    clients: Clients = Clients()
    cache: Cache | None = None
    upstream: Upstream = Upstream()

    @model_validator(mode="after")
    def _keys_have_tiers(self) -> Self:
        names = self.rate_limits.tier_names if self.rate_limits else DEFAULT_TIERS
        if any(keys.tier not in names for keys in self.clients.api_keys):
            raise ValueError(API_KEY_TIER_WORDS)
        return self


M = TypeVar("M", bound=Model)


def parse(cls: type[M], document: Any) -> tuple[M, tuple[str, ...]]:
    """Validate a document; return the model and the paths of the fields it does not know.

    An older sidecar must run under a newer operator, so unknown fields are left out
    and reported instead of refused. Raises ConfigError with one line a problem.
    """
    ignored: list[str] = []
    while True:
        try:
            return cls.model_validate(document), tuple(ignored)
        except ValidationError as error:
            unknown = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
            if not unknown:
                raise ConfigError(explain(error)) from None
            for location in unknown:
                document = _without(document, location)
                ignored.append(dotted(location))


def load(path: Path) -> tuple[SidecarConfig, tuple[str, ...]]:
    """Read and validate a configuration file (YAML, and so JSON too); see `parse`."""
    return parse(SidecarConfig, read_yaml(path) or {})


def read_yaml(path: Path) -> Any:
    """Return the one document of a YAML file; ConfigError if it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error


def explain(error: ValidationError) -> str:
    """A validation error in words for the person who wrote the manifest, a line a problem."""
    lines = []
    for problem in error.errors():
        words = str(problem["msg"]).removeprefix("Value error, ")
        lines.append(f"{dotted(problem['loc'])}: {words}" if problem["loc"] else words)
    return "\n".join(lines)


def dotted(location: Iterable[int | str]) -> str:
    """`("tiers", 0, "name")` as people write it: `tiers[0].name`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _without(document: Any, location: tuple[int | str, ...]) -> Any:
    key, *rest = location
    if isinstance(document, dict):
        if not rest:
            return {k: v for k, v in document.items() if k != key}
        return document | {key: _without(document[key], tuple(rest))}
    return [_without(item, tuple(rest)) if i == key else item for i, item in enumerate(document)]


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: the name '{name}' stands twice; write each name once")
        seen.add(name)

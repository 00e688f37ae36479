"""`rateLimits`: how many calls a client may make."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from mcpace_sidecar.contract.config.base import BY_NAME, McpName, Model, Name
from mcpace_sidecar.contract.nearest import Vocabulary
from mcpace_sidecar.contract.rules import Broken, Rule, rule


class Tier(Model):
    """What clients of one plan may call."""

    name: Name = Field(description="What manifests, tokens and metrics call it.")
    requests_per_minute: int = Field(
        ge=1, le=1_000_000, description="Size and refill of the token bucket, per client."
    )
    requests_per_day: int | None = Field(
        default=None, ge=1, le=1_000_000_000, description="Quota per client and UTC calendar day."
    )

    @property
    def most(self) -> int:
        """What one call may cost at most."""
        return min(self.requests_per_minute, self.requests_per_day or self.requests_per_minute)

    @property
    def words(self) -> str:
        """`free: 10 a minute, 100 a day`."""
        daily = f", {self.requests_per_day:,} a day" if self.requests_per_day is not None else ""
        return f"{self.name}: {self.requests_per_minute:,} a minute{daily}"


DEFAULTS: Final = (
    Tier(name="free", requests_per_minute=10, requests_per_day=100),
    Tier(name="pro", requests_per_minute=60, requests_per_day=10_000),
    Tier(name="enterprise", requests_per_minute=300, requests_per_day=1_000_000),
)
"""The tiers of `rateLimits` without `tiers`."""
DEFAULT_TIERS: Final = tuple(tier.name for tier in DEFAULTS)
_LEAST: Final = min(tier.most for tier in DEFAULTS)


class _Limit(Model):
    requests_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000, description="A token bucket of its own; counts calls."
    )
    cost: int = Field(
        default=1, ge=1, le=1_000_000, description="What a call takes from its tier's minute and day."
    )
    per: Literal["client", "server"] = Field(
        default="client", description="One bucket for each client, or one that all share."
    )


class ToolLimit(_Limit):
    """A limit or a price of one tool."""

    name: McpName = Field(description="The tool, as the server lists it.")


class PromptLimit(_Limit):
    """A limit or a price of one prompt."""

    name: McpName = Field(description="The prompt, as the server lists it.")


class ResourceLimit(_Limit):
    """A limit or a price of one resource, or of all whose URI begins alike."""

    name: str = Field(
        min_length=1,
        max_length=512,
        description="The URI, or its beginning followed by `*`: the whole one first, then the longest.",
    )


Limit = ToolLimit | PromptLimit | ResourceLimit
"""What a manifest may give a limit or a price."""


def _affordable(kind: str, one: str) -> Rule:
    """The rule that no cost of what is limited exceeds what any tier has."""

    def check(limits: RateLimits) -> Broken | None:
        smallest = min(limits.tiers, key=lambda tier: tier.most)
        for number, limit in enumerate(limits.of(one)):
            if limit.cost > smallest.most:
                most = f"{smallest.most}, which tier {smallest.name} has"
                return Broken((kind, number, "cost"), f"; write at most {most}")
        return None

    return Rule(
        f"!has(self.{kind}) || self.{kind}.all({one}, !has({one}.cost) || (has(self.tiers)"
        f" ? self.tiers.all(t, t.requestsPerMinute >= {one}.cost && (!has(t.requestsPerDay)"
        f" || t.requestsPerDay >= {one}.cost)) : {one}.cost <= {_LEAST}))",
        "a cost must not exceed the requestsPerMinute or requestsPerDay of any tier:"
        " it could never be called",
        check,
    )


class RateLimits(Model):
    """Token buckets per minute and quotas per day. `rateLimits: {}` gives three tiers."""

    tiers: tuple[Tier, ...] = Field(
        description="One a kind of client. Where not set: "
        + "; ".join(tier.words for tier in DEFAULTS)
        + ".",
        default=DEFAULTS,
        min_length=1,
        max_length=16,
        json_schema_extra=BY_NAME,
    )
    default_tier: Name | None = Field(
        default=None, description="The tier of clients without one; the first listed, if unset."
    )
    tools: tuple[ToolLimit, ...] = Field(
        default=(),
        max_length=128,
        json_schema_extra=BY_NAME,
        description="Further limits, and costs, of single tools.",
    )
    prompts: tuple[PromptLimit, ...] = Field(
        default=(), max_length=128, json_schema_extra=BY_NAME, description="The same of prompts."
    )
    resources: tuple[ResourceLimit, ...] = Field(
        default=(), max_length=128, json_schema_extra=BY_NAME, description="The same of resources, by URI."
    )
    when_redis_is_down: Literal["local", "open", "closed"] = Field(
        default="local",
        description="Without Redis: each replica its share of the limits, no limits, or no calls.",
    )
    reply: Literal["jsonrpc", "http429", "toolError"] = Field(
        default="jsonrpc",
        description="How a call is refused: HTTP 200 with JSON-RPC error 42900; HTTP 429 with the same;"
        " or a tool result with isError, which the model itself reads.",
    )
    count_cache_hits: bool = Field(default=True, description="Whether a cached answer is counted.")

    @rule(
        "!has(self.defaultTier) || (has(self.tiers) ? self.tiers.exists(t, t.name == self.defaultTier)"
        f" : self.defaultTier in {[*DEFAULT_TIERS]})",
        "defaultTier must be the name of one of the tiers",
    )
    def _default_is_a_tier(self) -> Broken | None:
        if self.default_tier is None or self.default_tier in self.tier_names:
            return None
        return Broken(("defaultTier",), among(self.tier_names, self.default_tier))

    _tools_are_affordable = _affordable("tools", "tool")
    _prompts_are_affordable = _affordable("prompts", "prompt")
    _resources_are_affordable = _affordable("resources", "resource")

    def of(self, kind: str) -> tuple[Limit, ...]:
        """All of one kind, such as `tool`."""
        limits: tuple[Limit, ...] = getattr(self, f"{kind}s")
        return limits

    @property
    def tier_names(self) -> tuple[str, ...]:
        """The names of the tiers, in order."""
        return tuple(tier.name for tier in self.tiers)


def among(tiers: tuple[str, ...], written: str) -> str:
    """`: free, pro; did you mean free?`, behind what is said of a tier that there is not."""
    return f": {', '.join(tiers)}{Vocabulary(tiers).meant(written)}"

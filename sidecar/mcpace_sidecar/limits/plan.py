"""Which buckets a call touches: the configuration's limits, looked up by client and tool."""

from __future__ import annotations

from typing import Final

from mcpace_sidecar.config import RateLimits, ToolLimit
from mcpace_sidecar.identity import Client
from mcpace_sidecar.limits.bucket import Charge

_REMEMBERED: Final = 10_000
"""Clients whose charges are held ready."""


class LimitPlan:
    """The charges of every call, remembered for the clients seen lately."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self.default_tier = limits.default_tier or limits.tiers[0].name
        self._tiers = {tier.name: tier for tier in limits.tiers}
        self._tools = {tool.name: tool for tool in limits.tools}
        self._known: dict[Client, dict[str, tuple[Charge, ...]]] = {}

    def tier(self, client: Client) -> str:
        """The tier a client belongs to."""
        return client.tier if client.tier in self._tiers else self.default_tier

    def charges(self, client: Client, tool: str) -> tuple[Charge, ...]:
        """What a call of that client takes, and from where. `tool` is empty for other methods."""
        known = self._known.get(client)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[client] = {}
        rule = self._tools.get(tool)
        name = tool if rule is not None else ""
        charges = known.get(name)
        if charges is None:
            charges = known[name] = self._plan(client, rule)
        return charges

    def _plan(self, client: Client, rule: ToolLimit | None) -> tuple[Charge, ...]:
        tier = self._tiers[self.tier(client)]
        cost = rule.cost if rule is not None else 1
        whose = f"{tier.name}:{client.name}"
        plan = [Charge(f"minute:{whose}", "minute", tier.requests_per_minute, cost)]
        if tier.requests_per_day is not None:
            plan.append(Charge(f"day:{whose}", "day", tier.requests_per_day, cost))
        if rule is not None and rule.requests_per_minute is not None:
            shared = rule.per == "server"
            key = f"tool:all:{rule.name}" if shared else f"tool:each:{rule.name}:{client.name}"
            plan.append(Charge(key, "tool", rule.requests_per_minute))
        return tuple(plan)

"""Which buckets a call touches: the configuration's limits, looked up by client and target."""

from __future__ import annotations

from collections.abc import Sequence

from mcpace_sidecar.contract.config.rate_limits import Limit, RateLimits, Tier
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.limits.bucket import Charge, Charges, Kind


class Price:
    """What a manifest says of the calls of one tool, prompt or resource."""

    __slots__ = ("cost", "kind", "name", "per_minute", "shared")

    def __init__(self, kind: Kind, limit: Limit) -> None:
        self.kind: Kind = kind
        self.name = limit.name
        self.cost = limit.cost
        self.per_minute = limit.requests_per_minute
        self.shared = limit.per == "server"

    def charge(self, client: str) -> Charge:
        """What a call takes from the bucket that this has of its own."""
        assert self.per_minute is not None
        key = f"{self.kind}:all:{self.name}" if self.shared else f"{self.kind}:each:{self.name}:{client}"
        return Charge(key, self.kind, self.per_minute)


class _Terms:
    """What a manifest says of one tier."""

    __slots__ = ("name", "per_day", "per_minute")

    def __init__(self, tier: Tier) -> None:
        self.name = tier.name
        self.per_minute = tier.requests_per_minute
        self.per_day = tier.requests_per_day

    def charges(self, client: str, cost: int) -> list[Charge]:
        """What a call of this cost takes from its client's minute and day."""
        whose = f"{self.name}:{client}"
        plan = [Charge(f"minute:{whose}", "minute", self.per_minute, cost)]
        if self.per_day is not None:
            plan.append(Charge(f"day:{whose}", "day", self.per_day, cost))
        return plan


class _Noted:
    """What one plan has worked out for a client."""

    __slots__ = ("charges", "plan")

    def __init__(self, plan: LimitPlan) -> None:
        self.plan = plan
        self.charges: dict[Price | None, Charges] = {}


class LimitPlan:
    """The charges of every call, noted with the client for as long as that is known."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self.default_tier = limits.default_tier or limits.tiers[0].name
        self._tiers = {tier.name: _Terms(tier) for tier in limits.tiers}
        self._alike: dict[tuple[str, Price | None], Charges] = {}
        """Some client's charges, by its tier and what it calls: everybody's are on the same terms."""

    def tier(self, client: Client) -> str:
        """The tier a client belongs to."""
        return client.tier if client.tier in self._tiers else self.default_tier

    @property
    def tiers(self) -> list[str]:
        """Their names, as they are listed."""
        return list(self._tiers)

    def has_counted(self, client: Client) -> bool:
        """Whether a call of that client was looked up."""
        noted: _Noted | None = client.notes
        return noted is not None and noted.plan is self

    def alone(self, client: str, tier: str, prices: Sequence[Price]) -> list[tuple[str, Charge]]:
        """All that one client alone is limited by: `minute`, `day`, `tool NAME`, and what a call takes."""
        found = [(charge.kind, charge) for charge in self._tiers[tier].charges(client, 1)]
        own = [price for price in prices if price.per_minute is not None and not price.shared]
        return found + [(f"{price.kind} {price.name}", price.charge(client)) for price in own]

    def charges(self, client: Client, price: Price | None) -> Charges:
        """What a call of that client takes, and from where. `price`: what its target costs."""
        noted: _Noted | None = client.notes
        if noted is None or noted.plan is not self:
            noted = client.notes = _Noted(self)
        charges = noted.charges.get(price)
        if charges is None:
            charges = noted.charges[price] = self._plan(client, price)
        return charges

    def _plan(self, client: Client, price: Price | None) -> Charges:
        tier = self._tiers[self.tier(client)]
        plan = tier.charges(client.name, price.cost if price is not None else 1)
        if price is not None and price.per_minute is not None:
            plan.append(price.charge(client.name))
        terms = tier.name, price
        charges = Charges(plan, self._alike.get(terms))
        self._alike.setdefault(terms, charges)
        return charges

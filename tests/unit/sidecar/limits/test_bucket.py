"""Buckets and quotas: never over the limit, whatever comes when."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mcpace_sidecar.contract.config.rate_limits import RateLimits
from mcpace_sidecar.identity.client import Client
from mcpace_sidecar.limits.bucket import DAY, Charge, Charges, share
from mcpace_sidecar.limits.memory import MemoryLimits
from mcpace_sidecar.limits.plan import LimitPlan, Price


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@given(
    capacity=st.integers(1, 100),
    rate=st.none() | st.integers(1, 300),
    steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 5)), max_size=60),
)
def test_a_bucket_never_gives_more_than_its_size_and_its_refill(capacity, rate, steps) -> None:
    clock = Clock()
    limits, began, granted = MemoryLimits(clock), clock.now, 0
    for pause, amount in steps:
        clock.now += pause
        if limits.take(
            Charges([Charge("k", "minute", capacity, min(amount, capacity), rate=rate)])
        ).allowed:
            granted += min(amount, capacity)
        assert granted <= capacity + (clock.now - began) * (rate or capacity) / 60 + 1e-6
        limits.sweep()


@given(capacity=st.integers(1, 60), rate=st.integers(1, 200))
def test_a_bucket_is_refilled_at_its_rate_and_said_to_be(capacity, rate) -> None:
    clock = Clock()
    limits, charges = MemoryLimits(clock), Charges([Charge("k", "minute", capacity, rate=rate)])
    while (verdict := limits.take(charges)).allowed:
        pass
    assert math.isclose(verdict.retry_after, 60 / rate)
    assert f";w={60 / (rate / capacity):.0f}".encode() in charges.lines(verdict.left, clock.now)
    clock.now += 60 * capacity / rate + 1e-3
    assert limits._levels["k"].used(clock.now) <= 0
    limits.sweep()
    assert not len(limits), "a full one is as good as none"


@given(capacity=st.integers(1, 20), pauses=st.lists(st.floats(0, 20_000), max_size=60))
def test_a_quota_never_gives_more_than_itself_on_one_utc_day(capacity, pauses) -> None:
    clock = Clock()
    limits = MemoryLimits(clock)
    days: dict[int, int] = {}
    for pause in pauses:
        clock.now += pause
        if limits.take(Charges([Charge("day:k", "day", capacity)])).allowed:
            days[int(clock.now // DAY)] = days.get(int(clock.now // DAY), 0) + 1
    assert all(count <= capacity for count in days.values())


@given(capacity=st.integers(1, 60), extra=st.integers(1, 20))
def test_a_refused_call_is_allowed_once_its_retry_time_has_passed(capacity, extra) -> None:
    clock = Clock()
    limits, charge = MemoryLimits(clock), Charges([Charge("k", "minute", capacity)])
    for _ in range(capacity):
        assert limits.take(charge).allowed
    for _ in range(extra):
        verdict = limits.take(charge)
        assert not verdict.allowed
    clock.now += verdict.retry_after * 0.99
    assert not limits.take(charge).allowed
    clock.now += verdict.retry_after * 0.01 + 1e-6
    assert limits.take(charge).allowed


def test_all_charges_of_a_call_are_taken_or_none() -> None:
    clock = Clock()
    limits = MemoryLimits(clock)
    wide, narrow = Charge("wide", "minute", 10), Charge("narrow", "tool", 1)
    assert limits.take(Charges([wide, narrow])).allowed
    refused = limits.take(Charges([wide, narrow]))
    assert (refused.allowed, refused.kind) == (False, "tool")
    assert sum(limits.take(Charges([wide])).allowed for _ in range(20)) == 9


def test_what_a_call_took_is_given_back_and_never_more_than_a_bucket_holds() -> None:
    clock = Clock()
    limits = MemoryLimits(clock)
    charges = Charges([Charge("minute:x", "minute", 2, 2), Charge("day:x", "day", 3)])
    assert limits.take(charges).allowed
    limits.give(charges)
    verdict = limits.take(charges)
    assert (verdict.allowed, verdict.left) == (True, [0.0, 2.0])
    for _ in range(3):
        limits.give(charges)
    assert limits.take(charges).left == [0.0, 2.0]


def test_a_refusal_names_the_limit_that_takes_longest() -> None:
    clock = Clock(10 * DAY + 3600)
    limits = MemoryLimits(clock)
    charges = Charges([Charge("m", "minute", 1), Charge("day:d", "day", 1)])
    limits.take(charges)
    verdict = limits.take(charges)
    assert verdict.kind == "day"
    assert math.isclose(verdict.retry_after, DAY - 3600)


def test_a_changed_limit_applies_to_what_is_left() -> None:
    clock = Clock()
    limits = MemoryLimits(clock)
    for _ in range(10):
        limits.take(Charges([Charge("k", "minute", 10), Charge("day:k", "day", 10)]))
    assert not limits.take(Charges([Charge("day:k", "day", 10)])).allowed
    assert sum(limits.take(Charges([Charge("day:k", "day", 12)])).allowed for _ in range(5)) == 2
    clock.now += 60
    assert sum(limits.take(Charges([Charge("k", "minute", 3)])).allowed for _ in range(10)) == 3


def test_a_clock_that_goes_back_refills_nothing() -> None:
    clock = Clock()
    limits = MemoryLimits(clock)
    assert limits.take(Charges([Charge("k", "minute", 1)])).allowed
    clock.now -= 3600
    assert not limits.take(Charges([Charge("k", "minute", 1)])).allowed


def test_buckets_gone_quiet_are_given_back() -> None:
    clock = Clock()
    limits = MemoryLimits(clock)
    limits.take(Charges([Charge("k", "minute", 1), Charge("day:k", "day", 1)]))
    clock.now += 61
    limits.sweep()
    assert len(limits) == 1
    clock.now += DAY
    limits.sweep()
    assert len(limits) == 0


def test_the_shares_of_replicas_do_not_exceed_the_limit_nor_fall_below_one_call() -> None:
    assert share(Charge("k", "minute", 10, 2), 3) == 3
    assert share(Charge("k", "minute", 10, 2), 40) == 2


def test_a_tool_has_its_price_and_its_own_bucket() -> None:
    limits = RateLimits.model_validate(
        {
            "tiers": [{"name": "free", "requestsPerMinute": 10, "requestsPerDay": 100}],
            "tools": [
                {"name": "dear", "cost": 5},
                {"name": "rare", "requestsPerMinute": 1, "per": "server"},
            ],
        }
    )
    plan = LimitPlan(limits)
    dear, rare = (Price("tool", tool) for tool in limits.tools)
    anna = Client("addr:1.2.3.4")
    assert [(c.kind, c.amount) for c in plan.charges(anna, dear).items] == [("minute", 5), ("day", 5)]
    assert [c.key for c in plan.charges(anna, rare).items][-1] == "tool:all:rare"
    assert plan.charges(anna, None) is plan.charges(anna, None)


def test_a_client_is_told_what_is_left_and_when_it_is_refilled() -> None:
    charges = Charges([Charge("m", "minute", 60), Charge("d", "day", 1000)])
    assert charges.lines([30.0, 999.0], DAY * 20_000 + 86_000) == (
        b'RateLimit-Policy: "minute";q=60;w=60, "day";q=1000;w=86400\r\n'
        b'RateLimit: "minute";r=30;t=30, "day";r=999;t=400\r\n'
    )


def test_a_client_of_an_unknown_tier_falls_into_the_default_tier() -> None:
    plan = LimitPlan(RateLimits())
    assert plan.tier(Client("key:a/b", "gone", anonymous=False)) == "free"
    assert plan.tier(Client("key:a/b", "pro", anonymous=False)) == "pro"

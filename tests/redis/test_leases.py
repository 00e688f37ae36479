"""Leases on a real Redis: never a call too many in total, and a fraction of the trips."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit.redis import RedisServer
from tests.kit.waiting import until

from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.contract.scripts import library
from mcpace_sidecar.limits import redis as limits_store
from mcpace_sidecar.limits.bucket import Charge, Charges, Verdict
from mcpace_sidecar.limits.lease import LIFE
from mcpace_sidecar.limits.redis import RedisLimits
from mcpace_sidecar.redis.link import Link


async def taken(limits: RedisLimits, charges: Charges) -> Verdict:
    told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
    verdict = limits.take(charges)
    if verdict is None:
        limits.ask(charges, told.set_result)
        verdict = await told
    return verdict


async def replica(redis_server: RedisServer, prefix: str = "p:", **options: Any) -> RedisLimits:
    link = Link("limits", RedisAddress(redis_server.url), prefix)
    await link.connect()
    return RedisLimits(link, lambda: "closed", **options)


STEP = st.tuples(st.integers(0, 3), st.integers(1, 40))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    capacity=st.sampled_from([5, 100, 6_000, 60_000]),
    day=st.sampled_from([3, 50, 10**9]),
    amount=st.integers(1, 3),
    history=st.lists(STEP, min_size=1, max_size=12),
    lost=st.booleans(),
)
async def test_no_history_of_replicas_and_leases_admits_too_much(
    redis_server: RedisServer, capacity: int, day: int, amount: int, history: list[Any], lost: bool
) -> None:
    """In total never more than the bucket and its refill; after a loss, one fresh bucket more."""
    with redis_server.client() as client:
        client.flushall()
    replicas = [await replica(redis_server) for _ in range(4)]
    for each in replicas:
        each.local.replicas = 4
    plans = [
        Charges([Charge("m", "minute", capacity, amount), Charge("day:d", "day", day, amount)])
        for _ in replicas
    ]
    began = time.monotonic()
    admitted, fresh = 0, 1
    for step, (number, calls) in enumerate(history):
        if lost and step == len(history) // 2:
            with redis_server.client() as client:
                client.flushall()
            fresh = 2
        limits = replicas[number]
        charges = plans[number]
        verdicts = await asyncio.gather(*(taken(limits, charges) for _ in range(calls)))
        admitted += amount * sum(verdict.allowed for verdict in verdicts)
        refill = (time.monotonic() - began) * capacity / 60
        assert admitted <= fresh * capacity + refill + 1e-6
        assert admitted <= fresh * day
    for each in replicas:
        await each.link.close()


async def test_what_was_leased_and_not_used_is_given_back(redis_server: RedisServer) -> None:
    limits = await replica(redis_server)
    charges = Charges([Charge("m", "minute", 1_000_000), Charge("day:d", "day", 1_000_000)])
    for _ in range(200):
        await taken(limits, charges)
    account = limits._accounts[charges]
    await until(lambda: not account.lease.asking, "the lease to be there")
    assert account.lease.calls > 0
    limits.sweep(time.monotonic() + LIFE + 1)
    with redis_server.client() as client:
        await until(lambda: int(client.get("p:day:d")) == 200, "what was not used to be given back")
    await limits.link.close()


async def test_ever_new_clients_are_held_in_bounds_and_what_the_forgotten_leased_goes_back(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_store, "ACCOUNTS", 32)
    limits = await replica(redis_server)
    busy = Charges([Charge("m", "minute", 1_000_000), Charge("day:busy", "day", 1_000_000)])
    for _ in range(200):
        await taken(limits, busy)
    lease = limits._accounts[busy].lease
    await until(lambda: not lease.asking, "the lease to be there")
    assert lease.calls > 0
    for number in range(100):
        await taken(limits, Charges([Charge(f"minute:{number}", "minute", 10)]))
        assert len(limits._accounts) <= 32
    assert busy not in limits._accounts
    with redis_server.client() as client:
        await until(lambda: int(client.get("p:day:busy")) == 200, "what was not used to be given back")
    await limits.link.close()


async def test_a_call_that_was_none_is_given_back_to_its_lease_or_to_redis(
    redis_server: RedisServer,
) -> None:
    limits = await replica(redis_server)
    for capacity in (10, 1_000_000):  # too small to lease from, and large
        charges = Charges(
            [Charge(f"minute:{capacity}", "minute", capacity), Charge(f"day:{capacity}", "day", 50)]
        )
        for _ in range(200):
            verdict = await taken(limits, charges)
            assert verdict.allowed, "200 calls of which none is charged"
            limits.give(charges, time.monotonic())
        assert (await taken(limits, charges)).left[1] == 49
    small = Charges([Charge("minute:10", "minute", 10), Charge("day:10", "day", 50)])
    limits.give(small, time.monotonic())  # of an account that has been quiet since
    assert (await taken(limits, small)).left[1] == 49
    await limits.link.close()


async def test_what_another_day_or_another_redis_counted_is_not_given_back(
    redis_server: RedisServer,
) -> None:
    limits = await replica(redis_server)
    charges = Charges([Charge("minute:x", "minute", 10), Charge("day:x", "day", 50)])

    async def counted() -> int:
        return int(await limits.link.ask(b"GET", b"p:day:x"))  # after whatever was asked before

    with redis_server.client() as client:
        client.function_load(library())
    began = time.monotonic()
    await taken(limits, charges)
    limits._midnight -= 86_400  # what was taken until here was taken yesterday
    await taken(limits, charges)
    limits.give(charges, began)
    assert await counted() == 2
    limits.give(charges, time.monotonic())
    assert await counted() == 1
    old, began = limits.link._nodes.current, time.monotonic()
    redis_server.stop()
    redis_server.start()
    await until(lambda: limits.link.up and limits.link._nodes.current is not old, "Redis to be found again")
    with redis_server.client() as client:
        client.function_load(library())
    await taken(limits, charges)
    limits.give(charges, began)
    assert await counted() == 1
    await limits.link.close()


async def test_leases_cost_a_fraction_of_the_trips(redis_server: RedisServer) -> None:
    charges = [Charge("m", "minute", 1_000_000)]
    leased, exact = await replica(redis_server), await replica(redis_server, leasing=False)
    for limits in (leased, exact):
        plan = Charges(charges)
        for _ in range(2000):
            assert (await taken(limits, plan)).allowed
    assert exact.trips == 2000
    assert leased.trips < 100
    for limits in (leased, exact):
        await limits.link.close()


async def test_a_refused_client_asks_redis_no_more_until_its_time(redis_server: RedisServer) -> None:
    limits = await replica(redis_server)
    charges = Charges([Charge("m", "minute", 1)])
    assert (await taken(limits, charges)).allowed
    before = limits.trips
    for _ in range(50):
        verdict = await taken(limits, charges)
        assert not verdict.allowed
        assert 0 < verdict.retry_after <= 60
    assert limits.trips == before + 1
    await limits.link.close()


async def test_a_replica_that_ends_gives_its_lease_back(redis_server: RedisServer) -> None:
    limits = await replica(redis_server)
    charges = Charges([Charge("day:d", "day", 1_000_000), Charge("m", "minute", 1_000_000)])
    for _ in range(100):
        await taken(limits, charges)
    account = limits._accounts[charges]
    await until(lambda: not account.lease.asking, "the lease to be there")
    await limits.leave()
    with redis_server.client() as client:
        assert int(client.get("p:day:d")) == 100
    await limits.link.close()


async def looked(limits: RedisLimits, charges: Charges) -> list[float] | None:
    told: asyncio.Future[list[float] | None] = asyncio.get_running_loop().create_future()
    limits.look(charges, told.set_result)
    return await told


async def reset(limits: RedisLimits, charges: Charges) -> bool:
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    limits.reset(charges, told.set_result)
    return await told


async def test_to_look_takes_nothing_and_a_reset_gives_all_back_in_every_replica(
    redis_server: RedisServer,
) -> None:
    here, there = await replica(redis_server), await replica(redis_server)
    charges = Charges([Charge("m", "minute", 3), Charge("day:d", "day", 5)])
    same = Charges([Charge("m", "minute", 3), Charge("day:d", "day", 5)])
    for _ in range(3):
        assert (await taken(here, charges)).allowed
    assert not (await taken(here, charges)).allowed
    for limits in (here, there, here):
        left = await looked(limits, same)
        assert left is not None
        assert (left[0] < 3, left[1]) == (True, 2)
    assert await reset(there, same)
    assert await looked(here, same) == [3, 5]
    assert await reset(here, same), "who remembers a refusal is told too"
    assert (await taken(here, charges)).allowed
    for limits in (here, there):
        await limits.link.close()


async def test_without_redis_a_reset_says_that_it_was_none(redis_server: RedisServer) -> None:
    limits = await replica(redis_server)
    charges = Charges([Charge("m", "minute", 3)])
    redis_server.stop()
    await until(lambda: not limits.link.up, "the loss to be noticed")
    assert not await reset(limits, charges)
    assert await looked(limits, charges) == [3.0]
    await limits.link.close()

"""Records of sessions: the twins in memory and in a real Redis do the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.redis import RedisServer

from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.sessions.memory import MemoryRecords
from mcpace_sidecar.sessions.record import Found, Record, Records
from mcpace_sidecar.sessions.redis import RedisRecords
from mcpace_sidecar.sessions.sealing import Owner

A, B, C = (Owner(f"10.0.0.{n}", 18081, n) for n in (1, 2, 3))
KEY = b"\x00" * 12
BORN = Record(
    A,
    0,
    b"inner-0",
    b"2025-11-25",
    b'{"capabilities":{}}',
    b'"debug"',
    (b'"file:///\\n"', b'"x"'),
    b"whose",
)


async def linked(redis_server: RedisServer) -> Link:
    link = Link("limits", RedisAddress(redis_server.url), "mcpace:{ns/demo}:")
    await link.connect()
    await told(RedisRecords(link).write, b"none", BORN)  # the first finds out how scripts are called
    return link


@pytest.fixture(params=["memory", "redis"])
async def records(request: pytest.FixtureRequest) -> AsyncIterator[Records]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    redis_server: RedisServer = request.getfixturevalue("redis_server")
    link = await linked(redis_server)
    await link.ask(b"FLUSHDB")
    yield RedisRecords(link)
    await link.close()


async def told(ask: Any, *arguments: Any) -> Any:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(*arguments, future.set_result)
    return await future


def unheard(is_ours: bool | None) -> None:
    """Nobody waits for it."""


async def said(ask: Any, *arguments: Any) -> Found:
    """What is told of a record, whoever says it."""
    return (await told(ask, *arguments))._replace(asked=True)


async def test_what_was_written_is_read_as_it_was(records: Records) -> None:
    assert await said(records.read, KEY) == Found(None)
    for record in (BORN, BORN._replace(epoch=1, subscriptions=())):
        await told(records.write, KEY, record)
        assert await said(records.read, KEY) == Found(record)


async def test_of_many_that_claim_at_once_one_is_given_it_and_all_are_told_whom(records: Records) -> None:
    await told(records.write, KEY, BORN)
    claims = (said(records.claim, KEY, (A, 0), BORN._replace(owner=each)) for each in (B, C) * 20)
    found = await asyncio.gather(*claims)
    assert {each.record.owner for each in found} in ({B}, {C})
    assert {(each.record.epoch, each.record.inner) for each in found} == {(1, b"")}
    assert found[0].record == BORN._replace(owner=found[0].record.owner, epoch=1, inner=b"")


async def test_what_the_owner_has_learnt_is_what_its_heir_finds(records: Records) -> None:
    await told(records.write, KEY, BORN)
    await told(records.write, KEY, BORN._replace(level=b'"error"'))
    found = await said(records.claim, KEY, (A, 0), BORN._replace(owner=B))
    assert found == Found(BORN._replace(owner=B, epoch=1, inner=b"", level=b'"error"'))


async def test_a_claim_by_what_was_seen_long_ago_is_told_who_has_it_now(records: Records) -> None:
    now = BORN._replace(owner=B, epoch=3, inner=b"inner-3")
    await told(records.write, KEY, now)
    assert await said(records.claim, KEY, (A, 0), BORN._replace(owner=C)) == Found(now)


async def test_a_former_owner_writes_nothing_and_learns_that_it_is_none(records: Records) -> None:
    await told(records.write, KEY, BORN)
    assert await told(records.write, KEY, BORN)
    taken = await said(records.claim, KEY, (A, 0), BORN._replace(owner=B))
    await told(records.write, KEY, BORN._replace(level=b'"error"'))
    assert await said(records.read, KEY) == taken
    assert not await told(records.write, KEY, BORN)
    assert await told(records.write, KEY, taken.record)


async def test_who_was_started_anew_at_the_same_place_is_the_owner_still(records: Records) -> None:
    anew = BORN._replace(owner=A._replace(boot=9))
    await told(records.write, KEY, BORN)
    assert await told(records.write, KEY, anew)
    assert (await said(records.read, KEY)).record == anew
    found = await said(records.claim, KEY, (A, 0), BORN._replace(owner=B))
    assert (found.record.owner, found.record.epoch) == (B, 1)


async def test_what_the_id_carries_is_not_written_and_what_it_does_not_is_not_lost(
    records: Records,
) -> None:
    await told(records.write, KEY, BORN)
    await told(records.write, KEY, BORN._replace(initialize=b"", level=b'"error"'))
    assert (await said(records.read, KEY)).record == BORN._replace(level=b'"error"')


async def test_a_record_that_was_forgotten_is_made_from_what_the_sealed_id_says(records: Records) -> None:
    found = await said(records.claim, KEY, (A, 4), BORN._replace(owner=B))
    assert found == Found(BORN._replace(owner=B, epoch=5, inner=b""))


async def test_a_record_from_before_the_store_was_away_is_behind_and_taken(records: Records) -> None:
    await told(records.write, KEY, BORN)
    found = await said(records.claim, KEY, (B, 2), BORN._replace(owner=C))
    assert (found.record.owner, found.record.epoch) == (C, 3)


async def test_whoever_ended_a_session_has_ended_it_everywhere(records: Records) -> None:
    await told(records.write, KEY, BORN)
    records.end(KEY)
    await told(records.write, KEY, BORN)
    assert await said(records.read, KEY) == Found(None, ended=True)
    assert await said(records.claim, KEY, (A, 0), BORN._replace(owner=B)) == Found(None, ended=True)
    assert not await told(records.write, KEY, BORN)


async def test_a_claim_without_a_session_is_anothers_after_a_while(records: Records) -> None:
    await told(records.write, KEY, BORN)
    await said(records.claim, KEY, (A, 0), BORN._replace(owner=B))
    assert (await said(records.claim, KEY, (A, 0), BORN._replace(owner=C))).record.owner == B
    await _let_pass(records, 31)
    found = await said(records.claim, KEY, (A, 0), BORN._replace(owner=C))
    assert (found.record.owner, found.record.epoch) == (C, 2)


async def _let_pass(records: Records, seconds: int) -> None:
    if isinstance(records, MemoryRecords):
        clock = records._clock
        records._clock = lambda: clock() + seconds
        return
    assert isinstance(records, RedisRecords)
    claimed = int(await records.link.ask(b"HGET", records._key(KEY), b"claimed"))
    await records.link.ask(b"HSET", records._key(KEY), b"claimed", b"%d" % (claimed - seconds))


async def test_a_record_is_forgotten_when_nobody_renews_it_and_a_tombstone_later(
    redis_server: RedisServer,
) -> None:
    link = await linked(redis_server)
    records = RedisRecords(link)
    records.idle_timeout, records.max_age = 50, 5000
    await told(records.write, KEY, BORN)
    await told(records.write, KEY, BORN)
    assert 45 < await link.ask(b"TTL", records._key(KEY)) <= 50
    records.end(KEY)
    await said(records.read, KEY)
    assert 4990 < await link.ask(b"TTL", records._key(KEY)) <= 5000
    await link.close()


async def test_an_idle_session_takes_no_more_than_a_kibibyte_of_the_store(
    redis_server: RedisServer,
) -> None:
    link = await linked(redis_server)
    records = RedisRecords(link)
    await told(records.write, b"\x01" * 12, BORN._replace(inner=b"f" * 32, initialize=b""))
    await said(records.read, b"\x01" * 12)
    assert await link.ask(b"MEMORY", b"USAGE", records._key(b"\x01" * 12)) <= 1024
    await link.close()


async def test_a_flood_of_sessions_takes_no_more_than_its_share_of_the_store(
    redis_server: RedisServer,
) -> None:
    link = await linked(redis_server)
    await link.ask(b"FLUSHDB")
    records = RedisRecords(link, most=50 * BORN.size)
    for number in range(500):
        await told(records.write, b"%012d" % number, BORN)
    await said(records.read, b"%012d" % 499)
    with redis_server.client() as client:
        assert len(client.keys("mcpace:{ns/demo}:session:*")) == 50
    assert await said(records.claim, b"%012d" % 499, (A, 0), BORN._replace(owner=B)) == Found(
        BORN._replace(owner=B, epoch=1, inner=b"")
    )
    await link.close()


async def test_what_a_session_says_later_costs_the_others_no_room(redis_server: RedisServer) -> None:
    link = await linked(redis_server)
    await link.ask(b"FLUSHDB")
    records = RedisRecords(link, most=2 * BORN.size)
    granted = records.write(KEY, BORN, unheard)
    for number in range(100):
        granted = records.write(KEY, BORN._replace(binding=b"%08d" % number), unheard, granted)
    assert granted == BORN.size
    assert records.write(b"another", BORN, unheard) == BORN.size
    assert records.write(KEY, BORN._replace(subscriptions=(b'"x"',) * 100), unheard, granted) == granted, (
        "no room"
    )
    assert (await said(records.read, KEY)).record == BORN._replace(binding=b"00000099")
    await link.close()


def test_records_in_memory_are_bounded_by_their_bytes() -> None:
    records = MemoryRecords()
    for number in range(10_000):
        records.write(b"%012d" % number, BORN._replace(initialize=b"x" * 8000), unheard)
    assert 900 < len(records) < 1100


def test_memory_keeps_no_record_of_what_the_sealed_id_says() -> None:
    records = MemoryRecords()
    plain = BORN._replace(initialize=b"", level=b"", subscriptions=())
    records.write(KEY, plain, unheard)
    assert len(records) == 0
    records.write(KEY, plain._replace(level=b'"debug"'), unheard)
    assert len(records) == 1
    records.write(KEY, plain, unheard)
    assert len(records) == 0


async def test_without_the_store_each_replica_goes_by_its_own_memory_and_says_so(
    redis_server: RedisServer,
) -> None:
    link = Link("limits", RedisAddress("redis://127.0.0.1:1/0"), "p:")
    await link.connect()
    records = RedisRecords(link)
    await told(records.write, KEY, BORN)
    assert await told(records.read, KEY) == Found(BORN, asked=False)
    found = await told(records.claim, KEY, (A, 0), BORN._replace(owner=B))
    assert found == Found(BORN._replace(owner=B, epoch=1, inner=b""), asked=False)
    assert await told(records.write, KEY, found.record) is None
    await link.close()

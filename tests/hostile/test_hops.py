"""What replicas pass on to each other: whose it is, and what becomes of it where it arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.kit.forgetful import CALL, INITIALIZE, LIST, VERSION, Forgetful, begin, posts
from tests.kit.redis import RedisServer
from tests.kit.sidecars import Running, Start, relaying
from tests.kit.speaking import RESPONSE, Speaking, sends
from tests.kit.upstream import Heard, Scripted
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.http.fetch import Fetch
from mcpace_sidecar.relay import peer
from mcpace_sidecar.sessions.sealing import UNBOUND

LEVEL = {"jsonrpc": "2.0", "id": 3, "method": "logging/setLevel", "params": {"level": "info"}}


async def adoption(owner: Running, heir: Running, session: str, reason: str) -> bytes:
    """The verdict of a replica that is asked to take a session over."""
    known = owner.plane.table.find(session.encode())
    assert known is not None
    seen = known.owner, known.epoch
    request = peer.adoption(b"/mcp", b"Host: relay\r\n", known.id, seen, UNBOUND, reason)
    assert owner.plane.peers is not None
    pool = owner.plane.peers.pool(heir.plane.table.owner.place)
    head, _ = await Fetch().from_pool(pool, request, DEADLINE)
    return head.get(peer.VERDICT) or b""


@pytest.fixture
def server(scripted: Scripted) -> Forgetful:
    scripted.answer = server = Forgetful()
    return server


async def test_who_opens_many_streams_through_another_replica_pays_for_them_alone(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    assert server
    config = {"clients": {"trustedProxies": ["127.0.0.0/8"]}}
    owner, ingress = [await start(scripted.port, config, **relaying()) for _ in range(2)]
    audience = owner.plane.audience
    audience.most = 4
    honest, hoarder = {"X_Forwarded_For": "10.0.0.1"}, {"X_Forwarded_For": "10.0.0.2"}
    stream = await sends(ingress, await begin(owner, **honest), **honest)
    await stream.reads(b": open\n\n")
    for _ in range(6):
        hoarded = await sends(ingress, await begin(owner, **hoarder), **hoarder)
        await hoarded.reads(b": open\n\n")
    await until(lambda: len(audience) == 4, "streams to be shed")
    shed = (await owner.metrics())['mcpace_shed_connections_total{reason="streams"}']
    assert shed >= 3
    told = {client: len(streams) for client, streams in audience._of.items()}
    assert told == {"addr:10.0.0.1": 1, "addr:10.0.0.2": 3}


async def test_a_replica_that_is_passed_over_ends_its_session_once_nothing_is_under_way_in_it(
    scripted: Scripted, server: Forgetful, start: Start, redis_server: RedisServer
) -> None:
    options = [relaying() | {"limits_url": redis_server.url} for _ in range(2)]
    owner, heir = [await start(scripted.port, **each) for each in options]
    for each in (owner, heir):
        await until(lambda each=each: each.links[0].up, "Redis to be found")
    calls = server.hooks["tools/call"] = Speaking()
    session = await begin(owner)
    passed_over = server.sessions[0]
    call = await sends(owner, session, CALL, **VERSION)
    await calls.opened(1)
    assert (await adoption(owner, heir, session, "owner_lost")).startswith(b"moved ")
    assert (await posts(owner, session, LEVEL))[0] == 200  # here it learns whose the session is
    known = owner.plane.table.find(session.encode())
    assert known is not None
    await until(lambda: not known.here, "the owner to learn that it was passed over")
    assert owner.sidecar._relay is not None
    for sweep in owner.sidecar._relay.sweeps:
        sweep(time.monotonic())
    left = owner.plane.table.on_passed.__self__  # type: ignore[union-attr]
    assert len(left) == 1, "a call goes on in it"
    calls.says(RESPONSE, ends=True)
    await call.reads(b'"id":7')
    await until(lambda: passed_over not in server.sessions, "it to be ended")
    assert len(server.sessions) == 1
    assert (await posts(owner, session, LIST))[0] == 200


async def test_who_takes_over_a_session_of_a_replica_that_has_gone_on_with_it_ends_what_it_has_begun(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    owner, heir = [await start(scripted.port, **relaying()) for _ in range(2)]
    session = await begin(owner)
    goes_on = asyncio.Event()
    begun: list[Heard] = []

    async def begins(heard: Heard) -> AsyncIterator[bytes]:
        if heard.message["params"]["clientInfo"]["name"] != "mcpace":
            begun.append(heard)
            await goes_on.wait()
        yield server.begin(heard.message)

    server.hooks["initialize"] = begins
    asking = asyncio.ensure_future(adoption(owner, heir, session, "drained"))
    await until(lambda: begun, "the session to be begun")
    known = heir.plane.table.find(session.encode())
    assert known is not None
    asking.cancel()
    await until(lambda: known.reviving == [], "it to be seen that nobody waits")
    goes_on.set()
    await until(lambda: known.reviving is None and len(server.sessions) == 1, "it to be ended")
    assert not known.here
    assert (await posts(owner, session, LIST))[0] == 200
    assert len(server.begun) == 2


async def test_a_session_of_a_replica_that_says_it_is_gone_goes_on_at_once(
    scripted: Scripted, server: Forgetful, start: Start
) -> None:
    owner, ingress = [await start(scripted.port, **relaying()) for _ in range(2)]
    session = await begin(owner)
    assert (await posts(ingress, session, CALL))[0] == 200
    assert owner.sidecar._relay is not None
    owner.sidecar._relay.leave()  # it has drained, and still answers
    ran = len(server.ran)
    assert (await posts(ingress, session, CALL))[0] == 200
    assert server.revivals == [INITIALIZE]
    assert [method for method, _ in server.ran[ran:]] == ["notifications/initialized", "tools/call"]
    known = ingress.plane.table.find(session.encode())
    assert known is not None
    assert (known.here, known.epoch) == (True, 1)
    assert ingress.plane.peers is not None
    assert not ingress.plane.peers.is_shunned(str(owner.sidecar._options.relay_listen))

"""The way to other replicas: one that is busy, one that thinks, and one that has vanished."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import time
from typing import Any

import pytest
from tests.kit.redis import RedisServer
from tests.kit.relays import NEW, OLD, REQUEST, Stream, relays
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.errors import UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.ledger import Ledger
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.relay.certificate import Certificates
from mcpace_sidecar.relay.peer_pool import AT_ONCE
from mcpace_sidecar.relay.peers import Peers


async def test_who_does_not_answer_costs_a_third_of_a_second_once() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    place = f"127.0.0.1:{full.getsockname()[1]}"
    waiting = [socket.socket() for _ in range(3)]  # nobody takes them: the next hello is not answered
    for each in waiting:
        each.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            each.connect(full.getsockname())
    async with relays((NEW,)) as (relay,):
        assert not relay.peers.is_shunned(place)
        with pytest.raises(UpstreamError) as raised:
            await relay.ask(place)
        assert raised.value.reason == "connect"
        assert relay.peers.is_shunned(place)
    for each in (*waiting, full):
        each.close()


@pytest.mark.parametrize("calls", [40, 256])
async def test_a_burst_of_calls_to_a_peer_that_was_not_asked_before_waits_for_a_few_connections(
    calls: int,
) -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        at_once = []
        begin = other.port._begin

        def begins(comer: Any) -> None:
            begin(comer)
            at_once.append(len(other.port._shaking))

        other.port._begin = begins  # type: ignore[method-assign]
        assert set(await asyncio.gather(*(one.ask(other.place) for _ in range(calls)))) == {b"relayed"}
        assert max(at_once) <= AT_ONCE
        assert not one.peers.is_shunned(other.place)
        assert other.port.refused == 0


@pytest.mark.parametrize("secrets", [(NEW,), (NEW, OLD)])
@pytest.mark.parametrize("taken", [1, 4])
async def test_a_peer_that_takes_a_connection_and_proves_nothing_is_busy_and_not_gone(
    secrets: tuple[bytes, ...], taken: int
) -> None:
    async with relays(secrets, (NEW,)) as (one, other):
        tls, begun = other.port._tls, [0]

        async def drop(comer: Any) -> None:
            begun[0] += 1
            if begun[0] > taken * len(secrets):
                await shake(comer)
            else:
                comer.opened.close()

        shake = other.port._shake
        other.port._shake = drop  # type: ignore[method-assign]
        if taken == 1:
            assert await one.ask(other.place) == b"relayed", "it is tried once more"
        else:
            with pytest.raises(UpstreamError) as raised:
                await one.ask(other.place)
            assert raised.value.reason == "busy"
            assert not raised.value.refused
        assert not one.peers.is_shunned(other.place)
        assert tls is other.port._tls


async def test_a_connection_that_fails_takes_nothing_from_calls_that_others_serve() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"

        async def drop(comer: Any) -> None:
            comer.opened.close()

        other.port._shake = drop  # type: ignore[method-assign]
        assert set(await asyncio.gather(*(one.ask(other.place) for _ in range(40)))) == {b"relayed"}


async def test_connections_to_all_peers_are_bounded_together_and_idle_ones_make_room() -> None:
    async with relays((NEW,), (NEW,), (NEW,)) as (one, busy, other):
        one.peers.most, busy.app.silent = 4, True
        asked = [asyncio.ensure_future(one.ask(busy.place)) for _ in range(6)]
        await until(lambda: len(busy.app.waiting) == 4, "as many requests as there are connections")
        waits = asyncio.ensure_future(one.ask(other.place))
        answered, most = 0, 0

        def goes_on() -> bool:
            nonlocal answered, most
            most = max(most, one.open_connections)
            for each in busy.app.waiting[answered:]:
                each.answer(b"HTTP/1.1 200 OK\r\n", b"late")
            answered = len(busy.app.waiting)
            one.peers.sweep(time.monotonic())
            return waits.done()

        await until(goes_on, "the other to be asked")
        assert await waits == b"relayed"
        assert await asyncio.gather(*asked) == [b"late"] * 6
        assert most <= 4


def drops_all(*sockets: Any) -> None:
    """Let the kernel drop whatever comes there, as if the machine had vanished."""
    one = struct.pack("HBBI", 6, 0, 0, 0)  # return 0: of each packet, nothing (bpf(4))
    held = ctypes.create_string_buffer(one)
    program = struct.pack("HL", 1, ctypes.addressof(held))
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER


async def test_a_machine_that_vanishes_ends_its_kept_connections_at_once() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await asyncio.gather(one.ask(other.place), one.ask(other.place)) == [b"relayed"] * 2
        other.app.silent = True
        accepted = [guest._transport.get_extra_info("socket") for guest in other.connections.open]  # type: ignore[attr-defined]
        listens = Stream()
        pool = one.peers.pool(other.place)
        pool.request((REQUEST,), listens, None)
        await until(lambda: other.app.asked == [b"/"] * 3, "the stream's request")
        drops_all(*other.port._listening, *accepted)
        pool.heard = time.monotonic()
        asked = [asyncio.ensure_future(one.ask(other.place)) for _ in range(3)]
        told = await asyncio.gather(*asked, return_exceptions=True)
        reasons = [each.reason for each in told if isinstance(each, UpstreamError)]
        assert sorted(reasons) == ["closed", "connect", "connect"], "one was sent, on the kept connection"
        assert one.peers.is_shunned(other.place), "that nobody is there was asked, and not waited for"
        assert [error.reason for error in listens.failed] == ["closed"]


async def test_nothing_is_sent_to_a_machine_that_vanished_while_it_was_asked_nothing() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"
        pool: Any = one.peers.pool(other.place)
        pool.heard -= 1.0
        assert await one.ask(other.place) == b"relayed"
        assert pool.opened == 1, "it was asked whether it is there, and is"
        drops_all(
            *other.port._listening,
            *(guest._transport.get_extra_info("socket") for guest in other.connections.open),  # type: ignore[attr-defined]
        )
        pool.heard -= 1.0
        pool._there = -1.0
        with pytest.raises(UpstreamError) as raised:
            await one.ask(other.place)
        assert raised.value.reason == "connect", "so it may be asked of another, whatever it is"
        assert one.peers.is_shunned(other.place)


async def test_a_peer_that_thinks_is_left_alone() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        other.app.silent = True
        asked = asyncio.ensure_future(one.ask(other.place))
        await until(lambda: other.app.asked == [b"/"], "the request")
        await until(lambda: other.port.refused > 0, "the question whether it is there")
        assert not asked.done()
        assert not one.peers.is_shunned(other.place)
        other.app.waiting[0].answer(b"HTTP/1.1 200 OK\r\n", b"thought")
        assert await asked == b"thought"
        assert other.port.begun == 1, "no handshake was spent on it"


async def test_a_connection_to_a_peer_is_watched_for_seconds_and_not_for_minutes() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"
        pool: Any = one.peers.pool(other.place)
        for connection in [*pool._all, *other.connections.open]:
            opened = connection._transport.get_extra_info("socket")
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 5


async def test_peers_find_each_other_in_redis_while_sessions_live_and_by_name_without_it(
    redis_server: RedisServer,
) -> None:
    certificates = Certificates(NEW).clients()
    link = Link("limits", RedisAddress(redis_server.url), "mcpace:{ns/peers}:")
    await link.connect()
    lives = [True, True, False]
    made = [
        Peers(f"10.0.0.{n}:18081", certificates, link, None, lambda n=n: lives[n], print, Ledger(0))
        for n in range(3)
    ]
    beating = [asyncio.create_task(each.stay_present()) for each in made]

    async def found(peers: Peers) -> Any:
        told: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        peers.look(told.set_result)
        return sorted(await told)

    both = ["10.0.0.0:18081", "10.0.0.1:18081"]

    async def are_found() -> None:
        while await found(made[0]) != both:
            await asyncio.sleep(0.01)

    async with asyncio.timeout(DEADLINE):
        await are_found()
    made[0].shun("10.0.0.1:18081")
    assert await found(made[0]) == both[:1]
    made[1].leave()
    assert await found(made[1]) == both  # who looks lives
    for task in beating:
        task.cancel()
    await link.close()
    named = Peers(
        "127.0.0.7:9",
        certificates,
        link,
        Address("127.0.0.8,127.0.0.9", 9),
        lambda: False,
        print,
        Ledger(0),
    )
    assert await found(named) == ["127.0.0.7:9", "127.0.0.8:9", "127.0.0.9:9"]

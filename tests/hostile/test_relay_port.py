"""The port between sidecars: who cannot prove to be one is told nothing, costs little, and keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.kit.redis import RedisServer
from tests.kit.waiting import DEADLINE, until

from mcpace_sidecar.contract.addresses import RedisAddress
from mcpace_sidecar.errors import ProtocolError, UpstreamError
from mcpace_sidecar.http.address import Address
from mcpace_sidecar.http.connections import Connections
from mcpace_sidecar.http.head import RequestHead
from mcpace_sidecar.http.known import RequestHeads
from mcpace_sidecar.http.server import ClientConnection
from mcpace_sidecar.redis.link import Link
from mcpace_sidecar.relay.certificate import Certificate, Certificates
from mcpace_sidecar.relay.peers import Peers
from mcpace_sidecar.relay.port import RelayPort
from mcpace_sidecar.server.session import Fetch

OLD, NEW, FOREIGN = (bytes([number]) * 32 for number in range(3))
REQUEST = b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"


class App:
    """Answers whatever it is asked, and remembers it."""

    def __init__(self) -> None:
        self.heads = RequestHeads()
        self.max_request_bytes = 1 << 20
        self.idle_timeout = 60.0
        self.draining = False
        self.asked: list[bytes] = []

    def judge_head(self, _: ClientConnection, __: RequestHead) -> bool:
        return False

    def on_request(self, connection: ClientConnection, head: RequestHead, _: bytes) -> None:
        self.asked.append(head.target)
        connection.answer(b"HTTP/1.1 200 OK\r\n", b"relayed")

    def on_bad_request(self, _: ProtocolError) -> tuple[bytes, bytes]:
        return b"", b"bad"

    def on_broken(self, error: Exception) -> tuple[bytes, bytes]:
        raise error


class Relay:
    """One end: a port, and peers."""

    def __init__(self, *secrets: bytes) -> None:
        self.app = App()
        certificates = Certificates(*secrets)
        self.connections = Connections(lambda _: None, 1000, 1 << 20, 1 << 20)
        self.port = RelayPort(self.app, self.connections, certificates.server())
        self.peers = Peers("127.0.0.1:0", certificates.clients(), None, None, lambda: False, self.raised)

    def raised(self, error: Exception) -> None:
        raise error

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port.address.port}"

    async def ask(self, place: str) -> bytes:
        _, body = await Fetch().from_pool(self.peers.pool(place), REQUEST, DEADLINE)
        return body


@contextlib.asynccontextmanager
async def relays(*all_secrets: tuple[bytes, ...]) -> AsyncIterator[list[Relay]]:
    made = [Relay(*secrets) for secrets in all_secrets]
    for each in made:
        await each.port.open(Address("127.0.0.1", 0))
    yield made
    for each in made:
        await each.peers.close()
        await each.port.close()
        for connection in list(each.connections.open):
            connection.abort()


async def test_sidecars_of_one_server_hear_each_other() -> None:
    async with relays((NEW,), (NEW,)) as (one, other):
        assert await one.ask(other.place) == b"relayed"
        assert await one.ask(other.place) == b"relayed"
        assert one.peers.pool(other.place).opened == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("one", [(OLD,), (NEW, OLD), (NEW,)])
@pytest.mark.parametrize("other", [(OLD,), (NEW, OLD), (NEW,)])
async def test_while_a_key_is_replaced_any_two_that_share_one_find_it(
    one: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    async with relays(one, other) as (here, there):
        if set(one) & set(other):
            assert await here.ask(there.place) == b"relayed"
        else:
            with pytest.raises(UpstreamError):
                await here.ask(there.place)
            assert there.app.asked == []


def client(certificate: Certificate | None, asked_for: Certificate) -> tuple[ssl.SSLContext, str]:
    """Somebody who knows the name to ask for, and trusts anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if certificate is None else certificate.client()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context, asked_for.name


@pytest.mark.parametrize("presented", [None, FOREIGN])
async def test_who_presents_no_certificate_or_another_servers_is_not_read(presented: bytes | None) -> None:
    async with relays((NEW,)) as (relay,):
        context, name = client(Certificate(presented) if presented else None, Certificate(NEW))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", relay.port.address.port, ssl=context, server_hostname=name
        )
        writer.write(REQUEST)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        await until(lambda: relay.port.refused == 1, "the refusal")
        assert relay.app.asked == []
        assert not relay.connections.open
        writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, None])
async def test_older_tls_and_plain_http_are_not_read(version: ssl.TLSVersion | None) -> None:
    async with relays((NEW,)) as (relay,):
        context = None
        if version is not None:
            context = Certificate(NEW).client()
            context.minimum_version = context.maximum_version = version
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", relay.port.address.port, ssl=context,
                server_hostname=Certificate(NEW).name if context else None,
            )  # fmt: skip
            writer.write(REQUEST)
            assert b"relayed" not in await reader.read()
            writer.close()
        await until(lambda: relay.port.refused == 1, "the refusal")
        assert relay.app.asked == []


async def test_a_stranger_at_a_peers_address_is_handed_nothing() -> None:
    """An address is another's when its pod is gone: it must not be told what clients send."""
    heard = bytearray()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.close()

    foreign = Certificate(FOREIGN)
    tls = foreign.server(foreign, Certificate(NEW))
    stranger = await asyncio.start_server(hear, "127.0.0.1", 0, ssl=tls)
    async with relays((NEW,)) as (relay,):
        with pytest.raises(UpstreamError) as raised:
            await relay.ask(f"127.0.0.1:{stranger.sockets[0].getsockname()[1]}")
        assert raised.value.reason == "connect"
    stranger.close()
    assert not heard


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


async def hostile(port: int, until_: float, hello: bytes, counted: list[int]) -> None:
    """Connect, say something, leave; again and again."""
    while time.monotonic() < until_:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.2):
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
                counted[0] += 1
                writer.write(hello)
                await writer.drain()
                writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_flood_of_handshakes_is_bounded_and_a_peer_is_heard_all_the_same() -> None:
    async with relays((NEW,), (NEW,)) as (relay, peer):
        hello = ssl.MemoryBIO(), ssl.MemoryBIO()
        context, name = client(Certificate(FOREIGN), Certificate(NEW))
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(*hello, server_hostname=name).do_handshake()
        counted = [0]
        began, before = time.monotonic(), relay.port.begun
        flood = [
            asyncio.create_task(hostile(relay.port.address.port, began + 2.0, hello[1].read(), counted))
            for _ in range(64)
        ]
        await until(lambda: counted[0] > 500, "the flood")
        assert await peer.ask(relay.place) == b"relayed"
        await asyncio.gather(*flood)
        seconds = time.monotonic() - began
        budget = relay.port.failing
        assert relay.port.begun - before <= budget.burst + budget.rate * seconds + 2
        assert relay.app.asked == [b"/"]


async def test_peers_find_each_other_in_redis_while_sessions_live_and_by_name_without_it(
    redis_server: RedisServer,
) -> None:
    certificates = Certificates(NEW).clients()
    link = Link("limits", RedisAddress(redis_server.url), "mcpace:{ns/peers}:")
    await link.connect()
    lives = [True, True, False]
    made = [
        Peers(f"10.0.0.{n}:18081", certificates, link, None, lambda n=n: lives[n], print) for n in range(3)
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
        "127.0.0.7:9", certificates, link, Address("127.0.0.8,127.0.0.9", 9), lambda: False, print
    )
    assert await found(named) == ["127.0.0.7:9", "127.0.0.8:9", "127.0.0.9:9"]
